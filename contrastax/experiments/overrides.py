"""Overrides of a config's keys, as the command line gives them: `--config.KEY=VALUE`."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Mapping
from typing import Any

from contrastax.annotations import PLACE
from contrastax.core import UserError
from contrastax.experiments.schema import FIELDS, completed, flat
from contrastax.parts import UnknownKey

MEANT = {
  "batch": "batch_size",
  "dataset": "data",
  "epochs": "steps",
  "lr": "learning_rate",
  "queue": "negatives",
  "queue_size": "negatives",
  "tau": "temperature",
  "wd": "weight_decay",
}
"""Common short names of keys."""
SUGGESTED = 3  # keys that a message names at most


def overridden(values: Mapping[str, Any], overrides: Mapping[str, str]) -> dict[str, Any]:
  """The completed config with some keys changed.

  Args:
    values: the config.
    overrides: {key: text}. The key is a path such as `method.negatives.0.size`. The text is a Python
      literal, or else a string. Where the config does not state a part, the key changes an argument
      of the default part.

  Raises:
    UserError: the config is wrong (see `schema.completed`), or there is no such key.
  """
  values = _lists(values)
  # Names first, and the outer before the inner: they decide which keys there are.
  for key in sorted(overrides, key=lambda key: (not f".{key}".endswith(".name"), key.count("."))):
    try:
      defaults = completed(values)
    except UserError:  # the override may be what is missing; what remains wrong is found below
      defaults = values
    path, value = key.split("."), _literal(overrides[key])
    _check_part(key, value, defaults)
    _set(values, defaults, path, value)
    try:
      completed(values)
    except UnknownKey as error:
      if error.path.replace("[", ".").replace("]", "") == f"config.{key}":
        raise _unknown(path, defaults, str(error)) from None
    except UserError:
      pass
  return completed(values)


def _set(values, defaults, path, value):
  """Sets values[path[0]][path[1]]… in place; takes a part that is not stated from the defaults."""
  node, whole = values, defaults
  for i, key in enumerate(path):
    if isinstance(node, list):
      if key.isdigit() and int(key) >= len(node):
        outer = f"config.{'.'.join(path[:i])}"
        raise UserError(
          f"{outer} has {len(node)} part(s), so there is no {outer}.{key}; state all parts in one value: "
          f"--{outer}=\"({{'name': …}}, {{'name': …}})\""
        )
      if not key.isdigit():
        raise _unknown(path, defaults)
      key, whole = int(key), whole[int(key)]
    elif not isinstance(node, dict) or (node is values and key not in FIELDS):
      raise _unknown(path, defaults)
    else:
      whole = whole.get(key) if isinstance(whole, Mapping) else None
      if i + 1 < len(path):
        if node is values and whole is None and key not in node:
          raise UserError(
            f"config.{key} is None; state the whole part: --config.{key}=\"{{'name': …}}\""
          )
        if key not in node and not isinstance(whole, Mapping | tuple):
          raise _unknown(path, defaults)
        if key not in node:
          node[key] = {} if path[i + 1 :] == ["name"] else _lists(whole)
        elif isinstance(node[key], dict) and isinstance(whole, tuple):  # one part, to be joined
          node[key] = [node[key]]
    if i + 1 < len(path):
      node = node[key]
  node[key] = value


def _check_part(key, value, defaults):
  """Refuses a name or a number in place of a part, and names the key that was meant."""
  found, last = {path for path in flat(defaults) if path.startswith(f"{key}.")}, key.split(".")[-1]
  if isinstance(value, str) and not PLACE.fullmatch(value):
    inner = [path for path in (f"{key}.name", f"{key}.0.name") if path in found]
  else:
    inner = [f"{key}.{last}"] if f"{key}.{last}" in found else []
  if inner and not isinstance(value, Mapping | list | tuple):
    raise UserError(f"config.{key} is a part; write --config.{inner[0]}={value}")


def _unknown(path, defaults, otherwise=None):
  """The error of a key that does not exist, with the full path of the key that may be meant.

  otherwise: the message where no other key is like it.
  """
  leaves, meant = flat(defaults), MEANT.get(path[-1], path[-1])
  found = [leaf for leaf in leaves if leaf.split(".")[-1] == meant]
  parts = {f".{meant}.name", f".{meant}.0.name"}
  found = found or [leaf for leaf in leaves if any(f".{leaf}".endswith(part) for part in parts)]
  shared = max((_shared(path, leaf) for leaf in found), default=0)
  found = [leaf for leaf in found if _shared(path, leaf) == shared]
  if not found:
    parent = ".".join(path[:-1])
    beside = {leaf.split(".")[-1]: leaf for leaf in leaves if leaf.rpartition(".")[0] == parent}
    anywhere = {leaf.split(".")[-1]: leaf for leaf in leaves}
    found = [beside[each] for each in difflib.get_close_matches(meant, beside, 1)]
    found = found or [anywhere[each] for each in difflib.get_close_matches(meant, anywhere, 1, 0.8)]
  if not found and otherwise:
    return UserError(otherwise)
  names = " or ".join(f"config.{leaf}" for leaf in found[:SUGGESTED])
  advice = f"did you mean {names}?" if names else "--help lists the keys"
  return UserError(f"config.{'.'.join(path)}: there is no such key; {advice}")


def _shared(path, leaf):
  """How many of the last components two paths share."""
  pairs = zip(reversed(path), reversed(leaf.split(".")), strict=False)
  equal = [one == other for one, other in pairs]
  return (*equal, False).index(False)


def _literal(text):
  try:
    return ast.literal_eval(text)
  except (ValueError, SyntaxError):
    return text


def _lists(value):
  """A copy with lists in place of tuples."""
  if isinstance(value, Mapping):
    return {key: _lists(each) for key, each in value.items()}
  return [_lists(each) for each in value] if isinstance(value, list | tuple) else value
