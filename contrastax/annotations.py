"""Checks the values of a config against annotations, and converts defaults to specs."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import inspect
import re
import types
import typing
from collections.abc import Collection
from typing import Any, Literal

import numpy as np

from contrastax import core
from contrastax.core import UserError
from contrastax.nouns import hints_of, nearest, noun_of, options, parts_of

MISSING = inspect.Parameter.empty
PLACE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
INFINITE = ("inf", "-inf")  # JSON and the command line write infinity as one of these strings
SINGULAR = {int: "an integer", float: "a number", bool: "True or False", str: "a string"}
PLURAL = {int: "integers", float: "numbers", bool: "truth values", str: "strings"}
MAX_SHOWN = 60  # characters of a wrong value in a message


class NotAllowed(UserError):
  """Raised if a spec contains a module whose import the caller does not allow."""


def fits(hint: Any, value: Any) -> bool:
  """Returns whether a value has the type of an annotation.

  Args:
    hint: an annotation that is not a union.
    value: a value that is not a part, a mapping or a tuple.
  """
  if hint in (MISSING, Any):
    return True
  if typing.get_origin(hint) is Literal:
    return any(value == each and type(value) is type(each) for each in typing.get_args(hint))
  if isinstance(value, bool):
    return hint is bool
  if hint is float:
    return isinstance(value, int | float) or value in INFINITE
  return hint in (int, str, types.NoneType) and isinstance(value, hint)


def wrong(hint: Any, value: Any, where: str) -> UserError:
  """Returns the error for a value that does not have the type of the annotation.

  Args:
    hint: the annotation.
    value: the value.
    where: the path of the key in the config.
  """
  shown = repr(value)
  shown = shown if len(shown) <= MAX_SHOWN else shown[:MAX_SHOWN] + "…"
  nouns = [noun for noun in map(noun_of, options(hint)) if noun]
  if isinstance(value, str) and any(value in parts_of(noun) for noun in nouns):
    return UserError(f"{where} must be a part; write {{'name': {value!r}}} in place of {shown}")
  texts = dict.fromkeys(_expected(option) for option in options(hint))
  return UserError(f"{where} must be {' or '.join(texts)}, not {shown}")


def imported(place: str, where: str, allow: Collection[str] | None) -> Any:
  """Imports the object at `package.module:name`.

  Args:
    place: the module and the name.
    where: the path of the key in the config, for messages.
    allow: the modules that may be imported, with their submodules. None means all modules.

  Returns:
    The object.

  Raises:
    NotAllowed: the module is not allowed.
    UserError: the module cannot be imported, or has no object of this name.
  """
  module, _, name = place.partition(":")
  if allow is not None and not any(f"{module}.".startswith(f"{each}.") for each in allow):
    raise NotAllowed(
      f"{where} is {place!r}, but the import of the module {module} is not allowed; "
      f"pass allow=({module!r},), or --allow={module} on the command line"
    )
  try:
    imported_module = importlib.import_module(module)
  except ModuleNotFoundError as error:
    raise UserError(
      f"{where}: there is no module {error.name!r}; start in the folder that contains it, or install it"
    ) from error
  except Exception as error:
    fault = f"{type(error).__name__}: {' '.join(str(error).split())}"
    raise UserError(f"{where}: {module} cannot be imported: {fault}") from error
  try:
    return functools.reduce(getattr, name.split("."), imported_module)
  except AttributeError:
    public = [each for each in vars(imported_module) if not each.startswith("_")]
    raise UserError(f"{where}: {module} has no {name!r}{nearest(name, public)}") from None


def check_imported(hint: Any, value: Any, place: str, where: str) -> None:
  """Checks that an object from a user's module has the type of an annotation.

  Args:
    hint: the annotation.
    value: the object.
    place: the module and the name, `package.module:name`.
    where: the path of the key in the config.

  Raises:
    UserError: the object has another type.
  """
  if (
    any(map(noun_of, options(hint))) and dataclasses.is_dataclass(value) and isinstance(value, type)
  ):
    raise UserError(f"{where}: {place} is a class; write {{'name': {place!r}}} with its arguments")
  if not any(_is_a(option, value) for option in options(hint)):
    expected = " or ".join(str(getattr(each, "__name__", each)) for each in options(hint))
    raise UserError(f"{where}: {place} gives {type(value).__name__}, not {expected}")


def spec_of(hint: Any, value: Any) -> Any:
  """Returns the spec of the default of an argument, or MISSING if a config cannot express it."""
  if value is None or isinstance(value, bool | int | float | str):
    return value
  if type(value) is tuple:
    inner = [each for option in options(hint) for each in typing.get_args(option)]
    specs = [spec_of(inner[0] if inner else MISSING, each) for each in value]
    return MISSING if MISSING in specs else tuple(specs)
  parts = [noun for noun in map(noun_of, options(hint)) if noun]
  if not dataclasses.is_dataclass(value):
    named = value.func if isinstance(value, functools.partial) else value
    arguments = value.keywords if isinstance(value, functools.partial) else {}
    for noun in parts:
      for name, part in parts_of(noun).items():
        if part is named:
          return {"name": name, **arguments}
    return MISSING
  for noun in parts:
    specs = _fields(value, noun.given)
    if MISSING in specs.values():
      return MISSING
    if parts_of(noun).get(type(value).__name__) is type(value):
      return {"name": type(value).__name__, **specs}
    if noun.join:  # a combination, such as `a & b`, is written as the tuple of its parts
      return tuple(
        part for spec in specs.values() for part in (spec if type(spec) is tuple else (spec,))
      )
  return _fields(value, ()) if type(value) in options(hint) else MISSING


def _fields(part: Any, given: Collection[str]) -> dict[str, Any]:
  """Returns the specs of the fields of a part that a config can specify."""
  hints = hints_of(type(part))
  return {
    field.name: spec_of(hints[field.name], getattr(part, field.name))
    for field in dataclasses.fields(part)
    if field.init and field.name not in given
  }


def _expected(hint: Any) -> str:
  """Describes the values of an annotation."""
  noun = noun_of(hint)
  if noun and noun.join:
    return f"a part, {{'name': …}}, or a tuple of parts, such as ({noun.example},)"
  if noun:
    return f"a part, {{'name': …}}, such as {noun.example}"
  if hint in SINGULAR:
    return SINGULAR[hint]
  if hint is types.NoneType:
    return "None"
  if hint is np.ndarray:
    return "the name of an array of the data"
  if typing.get_origin(hint) is Literal:
    return " or ".join(map(repr, typing.get_args(hint)))
  if hint is tuple or typing.get_origin(hint) is tuple:
    return _tuple_of(typing.get_args(hint))
  if isinstance(hint, type) and dataclasses.is_dataclass(hint):
    return f"the arguments of {hint.__name__} by name"
  return "'package.module:name'"


def _tuple_of(inner: tuple[Any, ...]) -> str:
  count = "" if not inner or inner[-1] is Ellipsis else f"{len(inner)} "
  kinds = {
    "parts" if noun_of(each) else PLURAL.get(each, "values")
    for each in inner
    if each is not Ellipsis
  }
  return f"a tuple of {count}{kinds.pop() if len(kinds) == 1 else 'values'}"


def _is_a(hint: Any, value: Any) -> bool:
  if hint in (MISSING, Any):
    return True
  if hint is core.Method:  # it is a protocol, so any dataclass may be a method
    return dataclasses.is_dataclass(value) and not isinstance(value, type)
  kind = typing.get_origin(hint) or hint
  return isinstance(value, kind) if isinstance(kind, type) else False
