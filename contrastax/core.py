"""The vocabulary of contrastax: its base classes, protocols, type aliases and errors.

All other modules use these definitions. This module imports no other module of contrastax. Symbols:
n anchors, m candidates, k candidates per anchor, d dimensions.
"""

from __future__ import annotations

import abc
import dataclasses
import functools
import operator
import zlib
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple, Protocol, TypeVar, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from typing_extensions import override

Array = jax.Array
"""A JAX array."""
Params = Any
"""A tree of arrays that are trained by gradient."""
State = Any
"""A tree of arrays that change during training without gradient."""
Batch = Mapping[str, Any]
"""The fields of the examples of one step, each an array or a tree of arrays.

The leading axis is the global batch. The field `index` (int32) is always present: the number of the
example in its data set. The source determines the other fields, such as `image` and `label`.
"""
Side = Mapping[str, Array]
"""Arrays that belong to the vectors of a group, by name, such as `index` and `label`."""
Metrics = Mapping[str, Array]
"""Scalars by name. They are logged."""
Schedule = Callable[[ArrayLike], ArrayLike]
"""A function from the step to a number, as in optax."""
Recipe = Callable[..., Any]
"""A function `(key, x, index) -> x` or `-> View` that draws a random view of each example.

x is an array or a tree of arrays [n, …]; `index` [n] has the numbers of the examples.
"""
ArrayLoss = Callable[..., Array]
"""A loss on arrays, such as `losses.barlow_twins`."""

T = TypeVar("T")
"""Any type, the same in the arguments and in the result."""
MOST_SHOWN = 100
"""Messages replace a longer repr, such as that of a network, by its type."""


class View(NamedTuple):
  """A view together with arrays that describe it.

  A recipe returns this instead of the view alone if terms need the description.

  Args:
    x: the view, an array or a tree of arrays [n, …].
    side: arrays [n, …] by name, such as crop boxes or which tokens are masked.
  """

  x: Any
  side: Side


class UserError(ValueError):
  """Invalid user input. The message is one line: the problem, the value found and the fix."""


class TrainingDiverged(RuntimeError):
  """Training cannot continue: a metric is not finite, or the embeddings have collapsed.

  A collapse stops a run only if `stop_on_collapse` is set. The message is one line.
  """


def check_integer(name: str, value: Any, least: int | None = None, most: int | None = None) -> int:
  """Returns the value as a Python integer.

  Args:
    name: the name of the argument, for the message.
    value: a Python or NumPy integer. Booleans are not integers.
    least: the smallest valid value, or None.
    most: the largest valid value, or None.

  Returns:
    The value as a Python integer.

  Raises:
    UserError: the value is not an integer, is below `least` or is above `most`.
  """
  try:
    number = None if isinstance(value, bool | np.bool_) else operator.index(value)
  except TypeError:
    number = None
  if number is None:
    raise UserError(f"{name} must be an integer, not {value!r}")
  if least is not None and number < least:
    raise UserError(f"{name} must be at least {least}, not {number}")
  if most is not None and number > most:
    raise UserError(f"{name} must be at most {most}, not {number}")
  return number


def class_error(value: type) -> UserError:
  """Returns the error for a class that was passed where an instance is needed."""
  return UserError(f"{value.__name__} is a class; give an instance, {value.__name__}()")


def check_kind(name: str, value: Any, kind: type[T], example: str) -> T:
  """Checks that a value is an instance of a class, and returns it.

  Args:
    name: the name of the argument, for the message.
    value: the value.
    kind: the class.
    example: an expression of a valid value, for the message.

  Returns:
    The value.

  Raises:
    UserError: the value is a class, or is not an instance of `kind`.
  """
  if isinstance(value, type) and issubclass(value, kind):
    raise class_error(value)
  if not isinstance(value, kind):
    shown = " ".join(repr(value).split())
    if isinstance(value, type):
      shown = f"the class {value.__name__}"
    elif len(shown) > MOST_SHOWN:
      shown = f"an object of type {type(value).__name__}"
    raise UserError(
      f"{name} must be a {kind.__module__.removeprefix('contrastax.')}.{kind.__name__}, such as "
      f"{example}, not {shown}"
    )
  return value


def check_seed(value: Any) -> int:
  """Returns the seed as a Python integer.

  Raises:
    UserError: the value is not an integer from 0 to 2³² − 1.
  """
  return check_integer("seed", value, 0, 2**32 - 1)


class Encoder(NamedTuple):
  """A network as a pair of pure functions.

  Args:
    init: `init(key, x) -> (params, state)` draws the parameters. x is an array or a tree of arrays
      [n, …]. `state` contains the arrays that are not trained by gradient, such as the running
      statistics of BatchNorm.
    apply: `apply(params, state, x, *, key, train) -> (y, state)`. y is the embedding [n, d], or a
      mapping that contains `embedding` [n, d] and other outputs, such as `tokens` [n, T, d].
      `train` is a Python bool. `key` may be None if the network is not random.
    together: whether several views may be concatenated and encoded in one call. It is False if a
      row of x refers to other rows of the same view, as a node of a graph refers to its neighbors.
  """

  init: Callable[..., tuple[Params, State]]
  apply: Callable[..., tuple[Any, State]]
  together: bool = True


class Source(Protocol):
  """A data set with an order. `batch(step)` depends on the seed and the step only.

  A run resumes only with a source of the same fingerprint.
  """

  @property
  def size(self) -> int:
    """The number of examples."""
    ...

  @property
  def batch_size(self) -> int:
    """The number of examples per batch, on all devices."""
    ...

  @property
  def fingerprint(self) -> int:
    """A 32-bit checksum of the data and their order."""
    ...

  def batch(self, step: int) -> Batch:
    """Returns the batch of a step."""
    ...


@functools.partial(
  jax.tree_util.register_dataclass, data_fields=["vectors", "side"], meta_fields=[]
)
@dataclasses.dataclass(frozen=True)
class Group:
  """A set of vectors and the arrays that belong to them.

  The library reads these names of a side:

      index        the number of the example; −1: the vector belongs to no example
      view         the number of the view; −1: the vector is not a view of this step
      label        the class; −1: no label
      as_positive  the weight of the candidate as a positive
      as_negative  the weight of the candidate as a negative
      weight       the weight of the vector; it multiplies both weights above
      guide        the vector of another model for the same example
      place        the number of the vector within its example, such as the number of a token

  All groups of one call have the same names.

  Args:
    vectors: [m, d], the same for every anchor, or [n, k, d], one set per anchor.
    side: arrays with the same leading axes as `vectors`, without the last.
  """

  vectors: Array
  side: Side

  @property
  def per_anchor(self) -> bool:
    """Whether each anchor has its own set of vectors."""
    return self.vectors.ndim == 3

  def attach(self, **side: Array) -> Group:
    """Returns the group with further arrays in its side; they replace those of the same name."""
    return Group(self.vectors, {**self.side, **side})


class Pairs(NamedTuple):
  """The weights of pairs, at least 0. A pair with two weights of zero is ignored.

  Boolean masks may be used if all weights are 0 or 1 and no pair is both a positive and a negative.
  They cost less, because no logarithm is computed per pair. The value True stands for an array of
  ones.

  Args:
    positive: the weight of each pair as a positive, [n, m] or [n, k].
    negative: the weight of each pair as a negative.
  """

  positive: Array | int
  negative: Array | int


class Relation(abc.ABC):
  """The base of relations, which are frozen dataclasses. `a & b` multiplies the weights of both."""

  @abc.abstractmethod
  def __call__(self, a: Side, c: Side, similarity: Array) -> Pairs:
    """Returns the weights of pairs. The computation is elementwise.

    Args:
      a: the side of the anchors. Its arrays broadcast against those of `c`.
      c: the side of the candidates.
      similarity: the scores of the pairs, [n, m] or [n, k]. It may be one tile of all pairs.
    """

  def __and__(self, other: Relation) -> Relation:
    return _Both(self, other)


@dataclasses.dataclass(frozen=True)
class _Both(Relation):
  left: Relation
  right: Relation

  def __repr__(self) -> str:
    return f"{self.left!r} & {self.right!r}"

  @override
  def __call__(self, a: Side, c: Side, similarity: Array) -> Pairs:
    left, right = self.left(a, c, similarity), self.right(a, c, similarity)
    # The product of two masks is their conjunction.
    return Pairs(left.positive * right.positive, left.negative * right.negative)


class Score(abc.ABC):
  """The base of scores, frozen dataclasses that compute how similar two vectors are.

  A score may be computed in two parts:

      score(params, a, c) = combine(params, prepare(params, a, True), prepare(params, c, False))

  `prepare` is computed once per vector and `combine` once per pair. By default `combine` is the
  whole score.

  Attributes:
    has_temperature: whether the score divides by its own temperatures. The temperature of the
      contrast must then be `fixed(1.0)`.
    regularizer: the weight of the penalty, see `penalized`.
  """

  has_temperature: ClassVar[bool] = False
  regularizer: float = 0.0

  @property
  def symmetric(self) -> bool:
    """Whether score(a, b) = score(b, a). Some plans then compute each pair of tiles once."""
    return False

  @property
  def penalized(self) -> Score | None:
    """A score whose result is (similarity, penalty), or None if the score has no penalty.

    The mean penalty of the positives times `regularizer` is added to the objective.
    """
    return None

  def init(self, key: Array, d: int) -> Params:
    """Draws the parameters for vectors of d dimensions."""
    return ()

  @abc.abstractmethod
  def __call__(self, params: Params, anchors: Array, candidates: Array) -> Any:
    """Returns the similarity of each pair.

    Args:
      params: the parameters, as `init` returns them.
      anchors: [n, d].
      candidates: [m, d], or [n, k, d], one set per anchor.

    Returns:
      The similarities [n, m] or [n, k]; a tuple of such arrays if the score computes several numbers
      of each pair.
    """

  def prepare(self, params: Params, vectors: Array, anchor: bool) -> Any:
    """Computes the part that needs one vector only, for vectors [..., d]. `anchor` is the role."""
    return vectors

  def combine(self, params: Params, anchors: Any, candidates: Any) -> Any:
    """Computes the similarity of each pair of prepared vectors."""
    return self(params, anchors, candidates)


class Compare(NamedTuple):
  """The settings with which a search or a loss compares anchors with candidates.

  Args:
    relation: `(anchor side, candidate side, similarity) -> Pairs`; usually a `Relation`.
    score: the similarity.
    score_params: the parameters of the score.
    same_set: whether the first group consists of the anchors themselves.
    plan: how all pairs are evaluated, a `pairwise.Plan`.
  """

  relation: Callable[[Side, Side, Array], Pairs]
  score: Score
  score_params: Params
  same_set: bool
  plan: Any


class Negatives:
  """The base of negatives, which are frozen dataclasses: they add candidates or select among them.

  The methods of this class change nothing: the candidates are the keys and the given negatives.
  """

  def init(self, rng: Array, keys: Group, examples: int) -> State:
    """Returns the state before the first step.

    Args:
      rng: a random key.
      keys: the keys of a batch; their shapes and types are those of all batches.
      examples: the size of the data set.
    """
    return ()

  def candidates(
    self, state: State, anchors: Group, groups: tuple[Group, ...], rng: Array, compare: Compare
  ) -> tuple[Group, tuple[Group, ...]]:
    """Returns the anchors and the groups of candidates that the criterion compares.

    Args:
      state: the state before this step.
      anchors: the anchors.
      groups: the candidates so far. `groups[0]` contains the keys, among them the positives.
      rng: a random key.
      compare: how the criterion compares anchors with candidates.
    """
    return anchors, groups

  def advance(self, state: State, keys: Group) -> State:
    """Returns the state after a step with these keys."""
    return state


class Temperature(abc.ABC):
  """The base of temperatures, which are frozen dataclasses.

  Attributes:
    per_anchor: whether each anchor has its own temperature, which `advance` changes.
  """

  per_anchor: ClassVar[bool] = False

  @property
  def learns_bias(self) -> bool:
    """Whether the parameters contain `bias`, a number that is added to every logit."""
    return False

  @property
  def bounds(self) -> tuple[float, float] | None:
    """The smallest and the largest temperature, or None if it has no bounds."""
    return None

  def init(self, size: int) -> tuple[Params, State]:
    """Returns (parameters, state) before the first step.

    Args:
      size: the number of anchors that may have their own temperature; 0 if it is unknown.
    """
    return (), ()

  @abc.abstractmethod
  def value(self, params: Params, state: State, side: Side) -> Array:
    """Returns the temperature, a scalar or one per anchor [n], of anchors with this side."""

  def weigh(self, value: Array, temperature: Array) -> Array:
    """Returns the value to minimize, from the loss [n] and the temperature [n] of each anchor."""
    return value

  def advance(self, state: State, side: Side, temperature: Array, stats: Side) -> State:
    """Returns the state after a step.

    Args:
      state: the state before the step.
      side: the side of the anchors.
      temperature: the temperature of each anchor in this step, [n].
      stats: the statistics of the criterion for each anchor, [n] each, without gradient.
    """
    return state


class Outcome(NamedTuple):
  """The result of a criterion.

  Args:
    value: the loss of each anchor, [n].
    weight: [n], 0 for an anchor without a positive, else 1. A mean with these weights leaves out
      the anchors without a positive.
    stats: the statistics that were requested by name, [n] each, without gradient.
    memory: the memory for the next step.
  """

  value: Array
  weight: Array
  stats: Side
  memory: State = ()


class Criterion(abc.ABC):
  """The base of criteria: losses on groups of candidates, frozen dataclasses of their parameters.

  Attributes:
    learns_bias: whether `__call__` takes `bias`, a number that is added to every logit.
  """

  learns_bias: ClassVar[bool] = False

  def init(self, size: int) -> State:
    """Returns the memory before the first step.

    Args:
      size: the number of anchors that may have an entry in the memory; 0 if it is unknown.
    """
    return ()

  @abc.abstractmethod
  def __call__(
    self,
    anchors: Group,
    groups: tuple[Group, ...],
    compare: Compare,
    *,
    temperature: ArrayLike,
    memory: State = (),
    stats: tuple[str, ...] = (),
  ) -> Outcome:
    """Returns the loss of each anchor.

    Args:
      anchors: the anchors, vectors [n, d].
      groups: the candidates. `groups[0]` contains the keys. The sides contain `as_positive` and
        `as_negative` besides the names that the relation reads.
      compare: the relation, the score and the plan.
      temperature: a scalar or one per anchor [n], above 0.
      memory: the memory that the previous step returned.
      stats: the names of the requested statistics, see `contrastax.criteria`.
    """


class Term(abc.ABC):
  """The base of terms, which are frozen dataclasses: the summands of an objective.

  `seen` contains the outputs of the method's networks, by name and view (`contrastax.networks`).

  Attributes:
    tag: the name of the term in parameters, state and metrics.
    weight: the weight in the objective, a number or a schedule.
  """

  tag: str
  weight: float | Schedule

  @abc.abstractmethod
  def init(self, key: Array, seen: Mapping[str, Any], examples: int) -> tuple[Params, State]:
    """Returns (parameters, state) before the first step.

    Args:
      key: a random key.
      seen: the outputs of the method's networks on a first batch.
      examples: the size of the data set; 0 if it is unknown.
    """

  @abc.abstractmethod
  def __call__(
    self, params: Params, state: State, seen: Mapping[str, Any], key: Array
  ) -> tuple[Array, State, Metrics]:
    """Returns (value, state, metrics). The value is a scalar; the metrics are averaged."""

  def advance(self, params: Params, state: State, step: Array) -> State:
    """Returns the state after the optimizer's step. Moving averages are updated here."""
    return state


@runtime_checkable
class Method(Protocol):
  """A training objective: a hashable object, usually a frozen dataclass of its parts.

  `state` contains all arrays that are not trained by gradient.
  """

  def init(self, key: Array, batch: Batch) -> tuple[Params, State]:
    """Returns (parameters, state) before the first step."""
    ...

  def objective(
    self, params: Params, state: State, batch: Batch, key: Array
  ) -> tuple[Array, tuple[State, Metrics]]:
    """Returns the scalar to minimize, and (the next state, metrics). `loss` is among the metrics."""
    ...

  def advance(self, params: Params, state: State, step: Array) -> State:
    """Returns the state after the optimizer's step."""
    ...


class Evaluated(NamedTuple):
  """The part of a method that is evaluated and kept after training.

  Args:
    network: the name of the network.
    input: the field that the network encodes, or a tuple of fields.
    views: the recipe of the views, or a tuple of recipes.
  """

  network: str
  input: str | tuple[str, ...]
  views: Recipe | tuple[Recipe, ...]


@runtime_checkable
class HasEvaluated(Method, Protocol):
  """A method with a network that can be evaluated."""

  @property
  def evaluated(self) -> Evaluated:
    """The network that is evaluated, its input and its views."""
    ...

  def network(self, name: str) -> Encoder:
    """Returns the network of a name."""
    ...


class TrainState(NamedTuple):
  """All arrays of a run. A run is restored from its config and this state.

  Random keys are not part of the state. They are derived from the seed and the step, see `key_for`.

  Args:
    step: the number of steps so far, an int32 scalar.
    seed: the seed of the run, a uint32 scalar.
    params: the parameters of the method.
    state: the state of the method.
    opt_state: the state of the optimizer.
  """

  step: Array
  seed: Array
  params: Params
  state: State
  opt_state: Any


def key_for(seed: Array | int, name: str, step: Array | int = 0) -> Array:
  """Returns the random key of one purpose at one step.

  Args:
    seed: the seed of the run.
    name: the purpose, such as "step".
    step: the step.
  """
  return jax.random.fold_in(named(jax.random.key(seed), name), step)


def named(key: Array, name: str) -> Array:
  """Returns the random key of the part called `name`, derived from a common key."""
  return jax.random.fold_in(key, zlib.crc32(name.encode()))


def per_example(key: Array, index: Array) -> Array:
  """Returns a random key for each example, derived from its `index` [n].

  The keys do not depend on the position in the batch or on the device.
  """
  return jax.vmap(functools.partial(jax.random.fold_in, key))(index)


def join(*trees: T) -> T:
  """Concatenates trees of arrays, such as groups or sides, along the leading axis."""
  return jax.tree.map(lambda *rows: jnp.concatenate(rows), *trees)


def named_leaves(tree: Any, is_leaf: Callable[[Any], bool] | None = None) -> list[tuple[str, Any]]:
  """Returns the leaves of a tree with their paths, such as `tokens/ids`.

  Args:
    tree: any tree. The path of a tree that is a single leaf is "".
    is_leaf: a function that returns whether a node is a leaf, as in `jax.tree.leaves`.
  """
  path_name = functools.partial(jax.tree_util.keystr, simple=True, separator="/")
  leaves = jax.tree_util.tree_leaves_with_path(tree, is_leaf=is_leaf)
  return [(path_name(path), leaf) for path, leaf in leaves]


def embedding_of(outputs: Any) -> Any:
  """Returns the embedding of an encoder's outputs: the entry `embedding`, or the array itself."""
  return outputs["embedding"] if isinstance(outputs, Mapping) else outputs
