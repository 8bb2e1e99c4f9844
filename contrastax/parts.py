"""Builds parts from specs, `{"name": …, **arguments}`, and checks the specs at every depth.

A spec contains the public name of a part and its arguments. The annotation of each argument
determines its valid values. An argument may be a spec. The name `"package.module:function"`
specifies a part from a module of the user. The message of an error is one line with the path of the
key and the nearest valid name.

    assemble(Encoder, {"name": "mlp", "widths": (64,)}, "config.method.encoder")
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import types
import typing
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np

from contrastax.annotations import MISSING, PLACE, check_imported, fits, imported, spec_of, wrong
from contrastax.core import UserError
from contrastax.nouns import Noun, nearest, noun_of, options, parameters_of, parts_of

NO_NOUN = Noun("", "", given=())
"""The noun of a dataclass that is not a part. It has no name and no given arguments."""


class UnknownKey(UserError):
  """A key that is not an argument of the part.

  Args:
    path: the key with its path in the config.
    message: the message.
  """

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
  """Builds the part of a spec, including the parts of its arguments.

  Args:
    noun: an annotation: a noun such as `core.Encoder`, a frozen dataclass, or any other type.
    spec: `{"name": …, **arguments}` for a noun, `{**arguments}` for a dataclass, else a value.
    where: the path of the spec in the config, for messages.
    given: values of arguments such as `plan`, `examples` and `steps`, for parts whose spec does not
      contain them. Its entry `arrays` contains the arrays of the data by name. A spec uses such a
      name for an argument that is an array.
    allow: the modules of the user that the spec may use. None means all modules.

  Returns:
    The part.

  Raises:
    UserError: an unknown key or name, a missing argument, or a value of a wrong type.

  Example:
    >>> from contrastax import core, parts
    >>> print(parts.assemble(core.Score, {"name": "cosine"}, "config.score"))
    cosine()
  """
  return _Reader(given, allow).read(noun, spec, where)[1]


def complete(noun: Any, spec: Any, where: str, *, allow: Collection[str] | None = None) -> Any:
  """Returns the spec with the defaults of all its parts. It checks the spec, but builds no part.

  A default that a spec cannot express, such as a function that is not public, is left out. The
  arguments that `assemble` takes in `given` are left out too.

  Args:
    noun: an annotation; see `assemble`.
    spec: the spec.
    where: the path of the spec in the config, for messages.
    allow: the modules of the user that the spec may use. None means all modules.

  Returns:
    The completed spec.

  Raises:
    UserError: an unknown key or name, a missing argument, or a value of a wrong type.

  Example:
    >>> from contrastax import core, parts
    >>> parts.complete(core.Encoder, {"name": "projection", "out": 32}, "config.projection")
    {'name': 'projection', 'widths': (128,), 'out': 32, 'norm_out': False, 'dtype': None}
  """
  return _Reader(None, allow).read(noun, spec, where)[0]


def complete_options(
  function: Callable[..., Any], options: Mapping[str, Any], where: str
) -> dict[str, Any]:
  """Returns the keyword arguments of a function with their defaults. It does not call the function.

  Args:
    function: the function.
    options: keyword arguments by name.
    where: the path of the arguments in the config, for messages.

  Raises:
    UserError: an argument is unknown or has a wrong type.
  """
  return _Reader(None, None)._arguments(function, "it", options, where, NO_NOUN, owner=())[0]


@dataclasses.dataclass(frozen=True)
class _Reader:
  """Reads values by their annotations. Each method returns (completed spec, object).

  Args:
    given: see `assemble`. None means that nothing is built, and the objects are None.
    allow: see `assemble`.
  """

  given: Mapping[str, Any] | None
  allow: Collection[str] | None

  def read(self, hint: Any, value: Any, where: str, owner: tuple[str, ...] = ()) -> tuple[Any, Any]:
    """Reads a value.

    Args:
      hint: the annotation.
      value: the value.
      where: its path in the config.
      owner: the names of the arguments of the part that the value belongs to.
    """
    choices = options(hint)
    if np.ndarray in choices and isinstance(value, str):
      return value, self._array(value, where)
    if isinstance(value, Mapping):
      return self._mapping(hint, value, where, owner)
    if isinstance(value, list | tuple):
      return self._tuple(hint, value, where, owner)
    if isinstance(value, str) and str not in choices and PLACE.fullmatch(value):
      part = imported(value, where, self.allow)
      check_imported(hint, part, value, where)
      return value, part
    for choice in choices:
      if fits(choice, value):
        plain = float(value) if choice is float else value
        return plain, plain
    raise wrong(hint, value, where)

  def _array(self, name: str, where: str) -> Any:
    """Returns the array of the data with this name."""
    if self.given is None:
      return None
    arrays = self.given.get("arrays", {})
    if name not in arrays:
      raise UserError(f"{where}: the data have no array {name!r}{nearest(name, arrays)}")
    return arrays[name]

  def _mapping(
    self, hint: Any, spec: Mapping[str, Any], where: str, owner: tuple[str, ...]
  ) -> tuple[Any, Any]:
    if any(map(noun_of, options(hint))):
      return self._part(hint, spec, where, owner)
    for choice in options(hint):
      if isinstance(choice, type) and dataclasses.is_dataclass(choice):
        return self._arguments(choice, choice.__name__, spec, where, NO_NOUN)
      if choice is MISSING and "name" in spec:
        raise UserError(
          f"{where} is a part, but its argument has no annotation; annotate the argument"
        )
      if choice in (MISSING, Any) or typing.get_origin(choice) in (dict, Mapping):
        plain = _frozen(spec)
        return plain, plain
    raise wrong(hint, spec, where)

  def _tuple(
    self, hint: Any, values: list | tuple, where: str, owner: tuple[str, ...]
  ) -> tuple[Any, Any]:
    for choice in options(hint):
      noun, origin, inner = noun_of(choice), typing.get_origin(choice), typing.get_args(choice)
      if choice in (MISSING, Any):
        plain = _frozen(values)
        return plain, plain
      if noun and noun.join and values:
        read = [self.read(choice, each, f"{where}[{i}]", owner) for i, each in enumerate(values)]
        parts = [part for _, part in read]
        made = self._built(functools.partial(functools.reduce, noun.join, parts), where)
        return tuple(part for spec, _ in read for part in _several(spec)), made
      if origin is tuple and inner[-1:] == (...,):
        inner = inner[:1] * len(values)
      if origin is tuple and len(inner) == len(values):
        places = [f"{where}[{i}]" for i in range(len(values))]
        read = [self.read(*each, owner) for each in zip(inner, values, places, strict=True)]
        return tuple(spec for spec, _ in read), tuple(made for _, made in read)
    raise wrong(hint, values, where)

  def _part(
    self, hint: Any, spec: Mapping[str, Any], where: str, owner: tuple[str, ...]
  ) -> tuple[Any, Any]:
    nouns = [noun for noun in map(noun_of, options(hint)) if noun]
    known = {name: noun for noun in reversed(nouns) for name in parts_of(noun)}
    if "name" not in spec:
      raise UserError(f"{where} needs 'name': a part is {{'name': …}}, such as {nouns[0].example}")
    name, rest = spec["name"], {key: value for key, value in spec.items() if key != "name"}
    is_imported = isinstance(name, str) and PLACE.fullmatch(name)
    if is_imported:
      noun, make = nouns[0], imported(name, f"{where}.name", self.allow)
      if not (isinstance(make, type) or inspect.isfunction(make)):
        raise UserError(f"{where}.name: {name} must be a function or a class, not {make!r}")
    elif isinstance(name, str) and name in known:
      noun, make = known[name], parts_of(known[name])[name]
    else:
      places = " and ".join(noun.package.removeprefix("contrastax.") for noun in nouns)
      raise UserError(f"{where}.name: no {name!r} in {places}{nearest(name, known)}")
    bound = noun.called and not isinstance(make, type)
    completed, made = self._arguments(make, name, rest, where, noun, owner if bound else None)
    if is_imported and not bound and self.given is not None:
      check_imported(hint, made, name, where)
    completed = {"name": name, **completed}
    return ((completed,) if noun.join else completed), made

  def _arguments(
    self,
    make: Callable[..., Any],
    name: str,
    spec: Mapping[str, Any],
    where: str,
    noun: Noun,
    owner: tuple[str, ...] | None = None,
  ) -> tuple[dict[str, Any], Any]:
    """Reads a part and its arguments.

    Args:
      make: the class or function of the part.
      name: its name, for messages.
      spec: its arguments.
      where: its path in the config.
      noun: its kind.
      owner: None for a part that is built by a call. For a function that the owner of the part
        calls, the names of the owner's arguments, which the owner may pass to the function.
    """
    takes = parameters_of(make, called=owner is not None)
    takes = {key: parameter for key, parameter in takes.items() if key not in (owner or ())}
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
      elif (default_spec := spec_of(hint, default)) is not MISSING:
        completed[key], arguments[key] = self.read(hint, default_spec, place, tuple(takes))
    if owner is not None:
      return completed, functools.partial(make, **arguments) if arguments else make
    return completed, self._built(functools.partial(make, **arguments), where)

  def _changed(
    self, key: str, hint: Any, spec: Mapping[str, Any], where: str
  ) -> tuple[dict[str, Any], Any]:
    """Replaces fields of a given argument, such as the plan, by the values in a spec."""
    kind = next(
      choice
      for choice in options(hint)
      if isinstance(choice, type) and dataclasses.is_dataclass(choice)
    )
    takes = parameters_of(kind, called=False)
    _check_keys(kind.__name__, spec, takes, where)
    read = {name: self.read(takes[name][0], spec[name], f"{where}.{name}") for name in spec}
    changes = {name: made for name, (_, made) in read.items()}
    base = kind() if self.given is None else self.given.get(key, kind())
    made = self._built(functools.partial(dataclasses.replace, base, **changes), where)
    return {name: plain for name, (plain, _) in read.items()}, made

  def _built(self, make: Callable[[], Any], where: str) -> Any:
    if self.given is None:
      return None
    try:
      return make()
    except (TypeError, ValueError) as error:  # UserError is a ValueError
      raise UserError(f"{where}: {' '.join(str(error).split())}") from error


def _check_keys(name: str, spec: Mapping[str, Any], takes: Mapping[str, Any], where: str) -> None:
  for key in spec:
    if key not in takes:
      raise UnknownKey(f"{where}.{key}", f"{where}: {name} takes no {key!r}{nearest(key, takes)}")


def _several(spec: Any) -> tuple[Any, ...]:
  return spec if isinstance(spec, tuple) else (spec,)


def _frozen(value: Any) -> Any:
  """Converts lists to tuples and mappings to dicts, so that parts can be hashed."""
  if isinstance(value, list | tuple):
    return tuple(_frozen(each) for each in value)
  if isinstance(value, Mapping):
    return {key: _frozen(each) for key, each in value.items()}
  return value
