"""From `{name: …, **arguments}` to the part of that name.

A config names its parts by the public names of one package, and gives their arguments:
there is no second vocabulary and no registry. So a mistake in a name or an argument is
found here, once, and answered with the nearest valid one.
"""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Collection, Mapping
from types import ModuleType
from typing import Any

from contrastax.core import UserError


def build(package: ModuleType, spec: Mapping[str, Any], **given: Any) -> Any:
  """`package.name(**arguments, **given)`; `given` are arguments that no config states."""
  found, arguments = _find(package, spec, given)
  _check_complete(package, found, {*arguments, *given})
  return found(**arguments, **given)


def find(package: ModuleType, spec: Mapping[str, Any]) -> Any:
  """`package.name`, whatever its arguments."""
  if not isinstance(spec, Mapping) or "name" not in spec:
    raise UserError(f"{_kind(package)}: a part is {{'name': …, **arguments}}, not {spec!r}")
  known = [
    name
    for name, value in vars(package).items()
    if callable(value) and not name.startswith("_") and _home(value).startswith(package.__name__)
  ]
  if spec["name"] not in known:
    raise UserError(f"{_kind(package)}: no {spec['name']!r}{nearest(spec['name'], known)}")
  return getattr(package, spec["name"])


def bind(package: ModuleType, spec: Mapping[str, Any], later: Collection[str] = ()) -> Any:
  """`package.name` with the arguments bound, for a function that is given those of `later`
  when it is called; a config may not state these, but must state what else it needs. Of a class,
  its instance."""
  found, arguments = _find(package, spec, later)
  if later:
    _check_complete(package, found, {*arguments, *later})
  if isinstance(found, type):
    return found(**arguments)
  return functools.partial(found, **arguments) if arguments else found


def nearest(name: str, known: list[str]) -> str:
  """`; did you mean 'x'?`, or the list of what there is."""
  close = difflib.get_close_matches(str(name), known, 1)
  if close:
    return f"; did you mean {close[0]!r}?"
  return f"; there are: {', '.join(sorted(known))}" if known else "; there are none"


def _find(package, spec, given):
  found = find(package, spec)
  arguments = {key: _frozen(value) for key, value in spec.items() if key != "name"}
  free = [p for p in inspect.signature(found).parameters if p not in given]
  for argument in arguments:
    if argument not in free:
      raise UserError(
        f"{_kind(package)}: {spec['name']} takes no {argument!r}{nearest(argument, free)}"
      )
  return found, arguments


def _check_complete(package, found, given):
  for name, parameter in inspect.signature(found).parameters.items():
    if name not in given and parameter.default is parameter.empty:
      raise UserError(f"{_kind(package)}: {found.__name__} needs {name!r}")


def _kind(package):
  return package.__name__.removeprefix("contrastax.")


def _home(value):
  return getattr(value, "__module__", "")


def _frozen(value):
  """Lists become tuples and mappings plain dicts: parts are hashable where they can be."""
  if isinstance(value, list | tuple):
    return tuple(_frozen(v) for v in value)
  if isinstance(value, Mapping):
    return {k: _frozen(v) for k, v in value.items()}
  return value
