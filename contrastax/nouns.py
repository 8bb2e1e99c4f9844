"""The kinds of parts, such as encoders and scores, and the parts of each kind.

The annotation of a field or a parameter, such as `encoder: Encoder`, specifies a kind of part,
which is called a noun. The noun determines the package whose public parts a config may use: here
`contrastax.encoders`.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import importlib
import inspect
import operator
import types
import typing
from collections.abc import Callable, Collection, Mapping
from typing import Any

import optax
from jax.typing import ArrayLike

from contrastax import core
from contrastax.core import UserError


@dataclasses.dataclass(frozen=True)
class Noun:
  """One kind of part.

  Args:
    package: the module whose public parts are of this kind.
    example: a spec, for messages.
    join: the operation that combines several parts into one, or None.
    given: arguments that `parts.assemble` gets from its caller, not from the spec.
    called: whether the parts are functions that their owner calls. A config then binds keyword
      arguments and does not call them.
    base: the base class of all dataclasses of this kind, or its name in the package. It is needed if
      the package has other dataclasses too.
  """

  package: str
  example: str
  join: Callable[[Any, Any], Any] | None = None
  given: tuple[str, ...] = ("plan", "examples")
  called: bool = False
  base: type | str = object


NOUNS = {
  "Encoder": Noun("contrastax.encoders", "{'name': 'mlp', 'widths': (64,)}"),
  "Recipe": Noun("contrastax.views", "{'name': 'affine_jitter'}"),
  "Criterion": Noun("contrastax.criteria", "{'name': 'info_nce'}", base=core.Criterion),
  "ArrayLoss": Noun("contrastax.losses", "{'name': 'info_nce'}", called=True),
  "Score": Noun("contrastax.pairwise.scores", "{'name': 'cosine'}"),
  "Relation": Noun("contrastax.relations", "{'name': 'same_example'}", join=operator.and_),
  "Negatives": Noun("contrastax.negatives", "{'name': 'in_batch'}", join=operator.add),
  "Temperature": Noun("contrastax.temperatures", "{'name': 'fixed', 'temperature': 0.1}"),
  "Term": Noun("contrastax.terms", "{'name': 'Contrast'}", base=core.Term),
  "Method": Noun("contrastax.methods", "{'name': 'SimCLR', …}", base=core.Method),
  "Order": Noun(
    "contrastax.data",
    "{'name': 'balanced', 'by': 'label', 'classes': 8, 'per_class': 4}",
    given=("size", "batch_size", "seed"),
    base="Order",
  ),
  "Refresh": Noun(
    "contrastax.training", "{'name': 'mined', 'every': 500, 'k': 4}", given=(), base="Refresh"
  ),
  "Schedule": Noun(
    "contrastax.schedules", "{'name': 'cosine', 'start': 0.99, 'end': 1.0}", given=("steps",)
  ),
  "Optimizer": Noun(
    "contrastax.training.optimizers",
    "{'name': 'adamw', 'learning_rate': 1e-3}",
    given=("steps",),
  ),
}
# Annotations that are not classes of this library.
ALIASES = {
  core.Recipe: "Recipe",
  core.ArrayLoss: "ArrayLoss",
  core.Schedule: "Schedule",
  optax.GradientTransformation: "Optimizer",
}


# A config cannot contain an array, so `ArrayLike` in an annotation means a number.
ARRAY_LIKE = typing.get_args(ArrayLike)


def options(hint: Any) -> list[Any]:
  """Returns the alternatives of an annotation: the members of a union, or the annotation itself."""
  if typing.get_origin(hint) in (typing.Union, types.UnionType):
    members = typing.get_args(hint)
    if set(ARRAY_LIKE) <= set(members):
      members = (float, *(each for each in members if each not in ARRAY_LIKE))
    return [option for each in members for option in options(each)]
  return [hint]


def noun_of(hint: Any) -> Noun | None:
  """Returns the noun of an annotation that is not a union, or None."""
  if isinstance(hint, type) and hint not in ALIASES:
    return NOUNS.get(hint.__name__) if hint.__module__.startswith("contrastax.") else None
  try:
    return NOUNS.get(ALIASES.get(hint, ""))
  except TypeError:  # the annotation cannot be hashed, such as Literal[[]]
    return None


@functools.cache
def parts_of(noun: Noun) -> Mapping[str, Callable]:
  """Returns the parts of a noun by their public names.

  These are the frozen dataclasses of the package, and the functions whose return annotation is the
  noun or such a dataclass. If `noun.called` is true, these are all functions of the package.
  """
  package = importlib.import_module(noun.package)
  public = {
    name: value
    for name, value in vars(package).items()
    if not name.startswith("_") and getattr(value, "__module__", "").startswith(noun.package)
  }
  base = vars(package)[noun.base] if isinstance(noun.base, str) else noun.base
  classes = {
    name: value
    for name, value in public.items()
    if isinstance(value, type) and dataclasses.is_dataclass(value) and issubclass(value, base)
  }
  functions = {
    name: value
    for name, value in public.items()
    if inspect.isfunction(value) and (noun.called or _returns(value, noun, classes.values()))
  }
  return classes | functions


def parameters_of(make: Callable, called: bool) -> dict[str, tuple[Any, Any]]:
  """Returns the arguments of a part that a config can specify.

  Args:
    make: the class or function.
    called: whether the owner of the part passes the positional arguments, so that only keyword
      arguments count.

  Returns:
    {name: (annotation, default)}. `inspect.Parameter.empty` means no annotation or no default.
  """
  kinds = {inspect.Parameter.KEYWORD_ONLY}
  if not called:
    kinds.add(inspect.Parameter.POSITIONAL_OR_KEYWORD)
  hints = hints_of(make)
  return {
    name: (hints.get(name, parameter.empty), parameter.default)
    for name, parameter in inspect.signature(make).parameters.items()
    if parameter.kind in kinds
  }


def hints_of(make: Callable) -> dict[str, Any]:
  """Returns the resolved annotations of the arguments of a part.

  Raises:
    UserError: an annotation contains a name that its module does not import.
  """
  plain_class = isinstance(make, type) and not dataclasses.is_dataclass(make)
  try:
    return typing.get_type_hints(make.__init__ if plain_class else make)
  except NameError as error:
    raise UserError(
      f"an annotation of {make.__qualname__} cannot be read: {error}; import the name when the "
      "module runs"
    ) from None


def accepts(function: Callable, *args: Any) -> bool:
  """Returns whether a function, or the constructor of a class, can be called with the arguments.

  It explains a TypeError: a call with wrong arguments is distinguished from an error within the
  function. The result is True for a function without a readable signature.
  """
  try:
    if isinstance(function, type):  # A metaclass, such as that of nnx.Module, accepts everything.
      inspect.signature(function.__init__).bind(None, *args)
    else:
      inspect.signature(function).bind(*args)
  except TypeError:
    return False
  except ValueError:
    return True
  return True


def nearest(name: str, known: Collection[str]) -> str:
  """Returns the end of a message: `; did you mean 'x'?`, or the list of known names."""
  lower = {each.lower(): each for each in known}
  close = difflib.get_close_matches(str(name), known, 1)
  close = close or [lower[each] for each in difflib.get_close_matches(str(name).lower(), lower, 1)]
  if close:
    return f"; did you mean {close[0]!r}?"
  return f"; there are: {', '.join(sorted(known))}" if known else "; there are none"


def _returns(function: Callable, noun: Noun, classes: Collection[type]) -> bool:
  """Returns whether the return annotation of a function is the noun or one of the classes."""
  result = typing.get_type_hints(function).get("return")
  if typing.get_origin(result) is tuple:
    result = typing.get_args(result)[0]
  return any(noun_of(option) is noun or option in classes for option in options(result))
