"""Overrides of the keys of a config, as the command line has them: `--config.KEY=VALUE`."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from contrastax.annotations import PLACE
from contrastax.core import UserError
from contrastax.data import complete
from contrastax.experiments.schema import FIELDS, completed, flat
from contrastax.parts import UnknownKey

ALIASES = {
  "batch": "batch_size",
  "dataset": "data",
  "epochs": "steps",
  "lr": "learning_rate",
  "queue": "negatives",
  "queue_size": "negatives",
  "tau": "temperature",
  "wd": "weight_decay",
}
"""Names that users write for a key, for the suggestions of messages."""
MAX_SUGGESTIONS = 3


def overridden(values: Mapping[str, Any], overrides: Mapping[str, str]) -> dict[str, Any]:
  """Returns the completed config with some keys changed.

  Args:
    values: the config.
    overrides: {key: text}. The key is a path such as `method.negatives.0.size`. The text is a Python
      literal, or else a string. If the config does not contain a part, the key changes an argument of
      the default part.

  Raises:
    UserError: the config is invalid (see `schema.completed`), or there is no such key.

  Example:
    >>> from contrastax.experiments import commandline, overrides
    >>> config = commandline.get_config("digits_simclr")
    >>> overrides.overridden(config, {"method.temperature.temperature": "0.1"})["method"]["temperature"]
    {'name': 'fixed', 'temperature': 0.1}
  """
  changed: dict[str, Any] = _with_lists(values)
  # The name of a part determines its keys, so names are set first, and outer ones before inner ones.
  for key in sorted(overrides, key=lambda key: (not f".{key}".endswith(".name"), key.count("."))):
    try:
      defaults = completed(changed)
    except UserError:  # The override may supply what is missing. The last line raises what remains.
      defaults = changed
    path, value = key.split("."), _literal(overrides[key])
    if path[0] == "data":
      value = _prepare_data(changed, path, value)
    else:
      _check_part(key, value, defaults)
    _set(changed, defaults, path, value)
    try:
      completed(changed)
    except UnknownKey as error:
      if error.path.replace("[", ".").replace("]", "") == f"config.{key}":
        raise _unknown(path, defaults, str(error)) from None
    except UserError:
      pass
  return completed(changed)


def _prepare_data(values: dict[str, Any], path: Sequence[str], value: Any) -> Any:
  """Returns the new value of the data set, or of one of its options.

  A data set is a name, or a mapping with options. A new name keeps the options that it has too.
  """
  old = values.get("data")
  if len(path) > 1:
    values["data"] = {"name": old} if isinstance(old, str) else old
  elif isinstance(value, str) and isinstance(old, Mapping):
    known = {} if PLACE.fullmatch(value) else complete(value, {}, "config.data")
    return {"name": value, **{key: each for key, each in old.items() if key in known}}
  return value


def _set(values: Any, defaults: Any, path: Sequence[str], value: Any) -> None:
  """Sets values[path[0]][path[1]]… in place.

  Args:
    values: the config, with lists instead of tuples.
    defaults: the completed config, whose parts are used where `values` has none.
    path: the path of the key.
    value: the new value.
  """
  node, default = values, defaults
  for i in range(len(path)):
    key, is_last = _key(node, path, i, defaults), i + 1 == len(path)
    default = _default(default, key)
    if not is_last and not isinstance(node, list):
      if i == 0 and default is None and key not in node:
        raise UserError(
          f"config.{key} is None; set the whole part: --config.{key}=\"{{'name': …}}\""
        )
      if key not in node and not isinstance(default, Mapping | tuple):
        raise _unknown(path, defaults)
      if key not in node:
        node[key] = {} if path[i + 1 :] == ["name"] else _with_lists(default)
      elif isinstance(node[key], dict) and isinstance(default, tuple):
        node[key] = [node[key]]  # A single part, where several parts can be combined.
    if is_last:
      node[key] = value
    else:
      node = node[key]


def _key(node: Any, path: Sequence[str], i: int, defaults: Mapping[str, Any]) -> Any:
  """Returns path[i] as a key of a dict, or as the number of a part in a list.

  Raises:
    UserError: the dict or list cannot have this key.
  """
  name = path[i]
  if isinstance(node, list):
    if not name.isdigit():
      raise _unknown(path, defaults)
    if int(name) >= len(node):
      outer = f"config.{'.'.join(path[:i])}"
      raise UserError(
        f"{outer} has {len(node)} part(s), so there is no {outer}.{name}; set all parts in one "
        f"value: --{outer}=\"({{'name': …}}, {{'name': …}})\""
      )
    return int(name)
  if not isinstance(node, dict) or (i == 0 and name not in FIELDS):
    raise _unknown(path, defaults)
  return name


def _default(defaults: Any, key: Any) -> Any:
  """Returns the default value of a key; None if there is none."""
  if isinstance(defaults, Mapping):
    return defaults.get(key)
  is_part = isinstance(defaults, list | tuple) and isinstance(key, int) and key < len(defaults)
  return defaults[key] if is_part else None


def _check_part(key: str, value: Any, defaults: Mapping[str, Any]) -> None:
  """Raises UserError for a name or a number in place of a part. The message has the inner key."""
  leaves = {path for path in flat(defaults) if path.startswith(f"{key}.")}
  last = key.split(".")[-1]
  if isinstance(value, str) and not PLACE.fullmatch(value):
    inner = [path for path in (f"{key}.name", f"{key}.0.name") if path in leaves]
  else:
    inner = [f"{key}.{last}"] if f"{key}.{last}" in leaves else []
  if inner and not isinstance(value, Mapping | list | tuple):
    raise UserError(f"config.{key} is a part; write --config.{inner[0]}={value}")


def _unknown(
  path: Sequence[str], defaults: Mapping[str, Any], otherwise: str | None = None
) -> UserError:
  """Returns the error for a key that does not exist, with the full path of the most similar key.

  Args:
    path: the path of the key.
    defaults: the completed config.
    otherwise: the message if no other key is similar.
  """
  leaves, name = flat(defaults), ALIASES.get(path[-1], path[-1])
  suggestions = [leaf for leaf in leaves if leaf.split(".")[-1] == name]
  if not suggestions:
    parts = (f".{name}.name", f".{name}.0.name")
    suggestions = [leaf for leaf in leaves if f".{leaf}".endswith(parts)]
  longest = max((_common_end(path, leaf) for leaf in suggestions), default=0)
  suggestions = [leaf for leaf in suggestions if _common_end(path, leaf) == longest]
  if not suggestions:
    parent = ".".join(path[:-1])
    siblings = {leaf.split(".")[-1]: leaf for leaf in leaves if leaf.rpartition(".")[0] == parent}
    everywhere = {leaf.split(".")[-1]: leaf for leaf in leaves}
    suggestions = [siblings[close] for close in difflib.get_close_matches(name, siblings, 1)]
    suggestions = suggestions or [
      everywhere[close] for close in difflib.get_close_matches(name, everywhere, 1, 0.8)
    ]
  if not suggestions and otherwise:
    return UserError(otherwise)
  names = " or ".join(f"config.{leaf}" for leaf in suggestions[:MAX_SUGGESTIONS])
  advice = f"did you mean {names}?" if names else "--help lists the keys"
  return UserError(f"config.{'.'.join(path)}: there is no such key; {advice}")


def _common_end(path: Sequence[str], leaf: str) -> int:
  """Returns the number of last components that two paths have in common."""
  pairs = zip(reversed(path), reversed(leaf.split(".")), strict=False)
  equal = [one == other for one, other in pairs]
  return (*equal, False).index(False)


def _literal(text: str) -> Any:
  try:
    return ast.literal_eval(text)
  except (ValueError, SyntaxError):
    return text


def _with_lists(value: Any) -> Any:
  """Returns a copy with lists in place of tuples."""
  if isinstance(value, Mapping):
    return {key: _with_lists(each) for key, each in value.items()}
  return [_with_lists(each) for each in value] if isinstance(value, list | tuple) else value
