"""From `{"name": …, **arguments}` to the part of that name, checked at every depth.

A config names its parts by the public names of a package, and gives their arguments: there is no
second vocabulary and no registry. The annotation of each argument decides what it takes. Parts nest,
and `"package.module:function"` names a user's own. A mistake is one line with the path of the key
and the nearest valid name.

  assemble(Encoder, {"name": "mlp", "widths": (64,)}, "config.method.encoder")
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import types
import typing
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from contrastax.annotations import MISSING, PLACE, check_imported, fits, imported, spec_of, wrong
from contrastax.core import UserError
from contrastax.nouns import Noun, nearest, noun_of, options, parameters_of, parts_of

NO_NOUN = Noun("", "", given=())


class UnknownKey(UserError):
  """A key that no part takes. `path` is the key with its path."""

  def __init__(self, path: str, message: str):
    super().__init__(message)
    self.path = path


def assemble(
  noun: Any,
  spec: Any,
  where: str,
  *,
  given: Mapping[str, Any] = types.MappingProxyType({}),
  allow: Collection[str] | None = None,
) -> Any:
  """The part that a spec states, with all the parts in it.

  Args:
    noun: an annotation: a noun such as `core.Encoder`, a frozen dataclass, or any other type.
    spec: {"name": …, **arguments} for a noun, {**arguments} for a dataclass; else a value.
    where: the spec's path in the config, for messages.
    given: values of `plan`, `examples`, `steps` and others, for the parts that take these arguments
      and whose spec does not state them; and `arrays`, the data's by name, of which a spec names one
      where an argument is an array.
    allow: modules of the user that the spec may name; None: all.

  Raises:
    UserError: an unknown key or name, a missing argument, or a value of a wrong type.
  """
  return _Reader(given, allow).read(noun, spec, where)[1]


def complete(noun: Any, spec: Any, where: str, *, allow: Collection[str] | None = None) -> Any:
  """The spec with the defaults of all its parts; checks it and builds nothing.

  A default that no spec can express, such as a function that is not public, is left out. So are
  the arguments that `assemble` is given. For the arguments and errors see `assemble`.
  """
  return _Reader(None, allow).read(noun, spec, where)[0]


@dataclasses.dataclass(frozen=True)
class _Reader:
  """Reads values by annotations. Each method returns (completed spec, object).

  Without `given` nothing is built, and the objects are None.
  """

  given: Mapping[str, Any] | None
  allow: Collection[str] | None

  def read(self, hint, value, where, owner=()):
    """`owner`: the arguments of the part that the value belongs to."""
    choices = options(hint)
    if np.ndarray in choices and isinstance(value, str):
      return value, self._array(value, where)
    if isinstance(value, Mapping):
      return self._mapping(hint, value, where, owner)
    if isinstance(value, list | tuple):
      return self._tuple(hint, value, where, owner)
    if isinstance(value, str) and str not in choices and PLACE.fullmatch(value):
      found = imported(value, where, self.allow)
      check_imported(hint, found, value, where)
      return value, found
    for choice in choices:
      if fits(choice, value):
        plain = float(value) if choice is float else value
        return plain, plain
    raise wrong(hint, value, where)

  def _array(self, name, where):
    """The array of the data that a config names where an argument is an array."""
    if self.given is None:
      return None
    arrays = self.given.get("arrays", {})
    if name not in arrays:
      raise UserError(f"{where}: the data have no array {name!r}{nearest(name, arrays)}")
    return arrays[name]

  def _mapping(self, hint, spec, where, owner):
    if any(map(noun_of, options(hint))):
      return self._part(hint, spec, where, owner)
    for choice in options(hint):
      if dataclasses.is_dataclass(choice):
        return self._arguments(choice, choice.__name__, spec, where, NO_NOUN)
      if choice is MISSING and "name" in spec:
        raise UserError(f"{where} is a part, but the argument has no annotation; annotate it")
      if choice in (MISSING, Any) or typing.get_origin(choice) in (dict, Mapping):
        plain = _frozen(spec)
        return plain, plain
    raise wrong(hint, spec, where)

  def _tuple(self, hint, values, where, owner):
    for choice in options(hint):
      noun, origin, inner = noun_of(choice), typing.get_origin(choice), typing.get_args(choice)
      if choice in (MISSING, Any):
        plain = _frozen(values)
        return plain, plain
      if noun and noun.join and values:
        read = [self.read(choice, each, f"{where}[{i}]", owner) for i, each in enumerate(values)]
        made = self._built(lambda: functools.reduce(noun.join, [part for _, part in read]), where)  # noqa: B023
        return tuple(part for spec, _ in read for part in _several(spec)), made
      if origin is tuple and inner[-1:] == (...,):
        inner = inner[:1] * len(values)
      if origin is tuple and len(inner) == len(values):
        places = [f"{where}[{i}]" for i in range(len(values))]
        read = [self.read(*each, owner) for each in zip(inner, values, places, strict=True)]
        return tuple(spec for spec, _ in read), tuple(made for _, made in read)
    raise wrong(hint, values, where)

  def _part(self, hint, spec, where, owner):
    found = [noun for noun in map(noun_of, options(hint)) if noun]
    known = {name: noun for noun in reversed(found) for name in parts_of(noun)}
    if "name" not in spec:
      raise UserError(f"{where} needs 'name': a part is {{'name': …}}, such as {found[0].example}")
    name, rest = spec["name"], {key: value for key, value in spec.items() if key != "name"}
    own = isinstance(name, str) and PLACE.fullmatch(name)
    if own:
      noun, make = found[0], imported(name, f"{where}.name", self.allow)
      if not (isinstance(make, type) or inspect.isfunction(make)):
        raise UserError(f"{where}.name: {name} is neither a function nor a class, but {make!r}")
    elif isinstance(name, str) and name in known:
      noun, make = known[name], parts_of(known[name])[name]
    else:
      places = " and ".join(noun.package.removeprefix("contrastax.") for noun in found)
      raise UserError(f"{where}.name: no {name!r} in {places}{nearest(name, known)}")
    bound = noun.called and not isinstance(make, type)
    completed, made = self._arguments(make, name, rest, where, noun, owner if bound else None)
    if own and not bound and self.given is not None:
      check_imported(hint, made, name, where)
    completed = {"name": name, **completed}
    return ((completed,) if noun.join else completed), made

  def _arguments(self, make, name, spec, where, noun, owner=None):
    """A part with its arguments.

    owner: of a function that the part's owner calls, the arguments that the owner may pass.
    """
    takes = parameters_of(make, called=owner is not None)
    takes = {key: found for key, found in takes.items() if key not in (owner or ())}
    _check_keys(name, spec, takes, where)
    completed, arguments = {}, {}
    for key, (hint, default) in takes.items():
      place = f"{where}.{key}"
      if key in noun.given and key not in spec:
        if self.given is not None and key in self.given:
          arguments[key] = self.given[key]
        elif self.given is not None and default is MISSING:
          raise UserError(f"{where}: {name} needs {key!r}")
      elif key in noun.given and isinstance(spec[key], Mapping):
        completed[key], arguments[key] = self._changed(key, hint, spec[key], place)
      elif key in spec:
        completed[key], arguments[key] = self.read(hint, spec[key], place, tuple(takes))
      elif default is MISSING:
        raise UserError(f"{where}: {name} needs {key!r}")
      elif (stated := spec_of(hint, default)) is not MISSING:
        completed[key], arguments[key] = self.read(hint, stated, place, tuple(takes))
    if owner is not None:
      return completed, functools.partial(make, **arguments) if arguments else make
    return completed, self._built(functools.partial(make, **arguments), where)

  def _changed(self, key, hint, spec, where):
    """What is given, such as the plan, with the fields that a spec states."""
    kind = next(choice for choice in options(hint) if dataclasses.is_dataclass(choice))
    takes = parameters_of(kind, called=False)
    _check_keys(kind.__name__, spec, takes, where)
    read = {name: self.read(takes[name][0], spec[name], f"{where}.{name}") for name in spec}
    changes = {name: made for name, (_, made) in read.items()}
    base = kind() if self.given is None else self.given.get(key, kind())
    made = self._built(functools.partial(dataclasses.replace, base, **changes), where)
    return {name: plain for name, (plain, _) in read.items()}, made

  def _built(self, make, where):
    if self.given is None:
      return None
    try:
      return make()
    except (TypeError, ValueError) as error:  # UserError is a ValueError
      raise UserError(f"{where}: {' '.join(str(error).split())}") from error


def _check_keys(name, spec, takes, where):
  for key in spec:
    if key not in takes:
      raise UnknownKey(f"{where}.{key}", f"{where}: {name} takes no {key!r}{nearest(key, takes)}")


def _several(spec):
  return spec if isinstance(spec, tuple) else (spec,)


def _frozen(value):
  """Lists as tuples and mappings as plain dicts: parts are hashable where they can be."""
  if isinstance(value, list | tuple):
    return tuple(_frozen(each) for each in value)
  if isinstance(value, Mapping):
    return {key: _frozen(each) for key, each in value.items()}
  return value
