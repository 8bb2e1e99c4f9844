"""The nouns of contrastax, and its errors. Imports nothing of ours.

Everything else is written in these words. Notation used throughout: n anchors,
m candidates, k candidates per anchor, d dimensions.
"""

from __future__ import annotations

import dataclasses
import functools
import operator
import zlib
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array
Params = Any
State = Any
Batch = Mapping[str, Any]
"""Arrays, or trees of arrays, by name. The leading axis is the *global* batch. `index` (int32, the
number of the example in its data set) is always among them; then `image`, `label`, … as the source
has."""
Schedule = Callable[[Array], Array]
"""A number that depends on the step, as optax has them."""
Recipe = Callable[..., Any]
"""`(key, x, index) -> x` or `View`: a random view of each example. x is an array or a tree of arrays,
`index` [n] the numbers of the examples."""
ArrayLoss = Callable[..., Array]
"""A loss on arrays, such as `losses.barlow_twins`."""


class View(NamedTuple):
  """What a recipe returns where later parts need more than the view itself.

  `x`: the view, an array or a tree of arrays. `side`: arrays [n, …] by name, such as crop boxes or
  which tokens are masked.
  """

  x: Any
  side: Mapping[str, Array]


class UserError(ValueError):
  """Invalid user input. The message is one line: the problem, the value found and the fix."""


class TrainingDiverged(RuntimeError):
  """Training cannot continue, because the loss or another array of the run is not finite."""


def check_integer(name: str, value: Any, least: int | None = None, most: int | None = None) -> int:
  """The value as a Python integer.

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


def check_kind(name: str, value: Any, kind: type, example: str) -> None:
  """Raises UserError unless the value is an instance of the kind; `example` is one."""
  if isinstance(value, type):
    raise UserError(f"{value.__name__} is a class; give an instance, {value.__name__}()")
  if not isinstance(value, kind):
    found = " ".join(repr(value).split())
    raise UserError(
      f"{name} must be a {kind.__module__.removeprefix('contrastax.')}.{kind.__name__}, such as "
      f"{example}, not {found}"
    )


def check_seed(value: Any) -> int:
  """The seed as a Python integer; raises UserError unless it is one, from 0 to 2**32 − 1."""
  return check_integer("seed", value, 0, 2**32 - 1)


class Encoder(NamedTuple):
  """A pure network.

  `init(key, x) -> (params, state)`; `apply(params, state, x, *, key, train) -> (y, state)`.
  x is an array or a tree of arrays [n, …]. y is the embedding [n, d], or a mapping with `embedding`
  [n, d] and other outputs, such as `tokens` [n, T, d]. `train` is a Python bool, and `key` may be
  None for an encoder without randomness. `state` holds what is not trained by gradient, such as
  BatchNorm's running statistics.

  `together`: whether several views may be concatenated and encoded in one call. False where a row
  of x refers to other rows of the same view, such as a node to its neighbors.
  """

  init: Callable[..., tuple[Params, State]]
  apply: Callable[..., tuple[Any, State]]
  together: bool = True


class Source(Protocol):
  """Data as a pure function: `batch(step)` depends on (seed, step) and nothing else.

  `fingerprint`, 32 bits, is of the examples in their order: a run goes on with the same alone.
  """

  size: int
  batch_size: int
  fingerprint: int

  def batch(self, step: int) -> Batch: ...


@functools.partial(
  jax.tree_util.register_dataclass, data_fields=["vectors", "side"], meta_fields=[]
)
@dataclasses.dataclass(frozen=True)
class Group:
  """A set of vectors and what each of them carries.

  `vectors`: [m, d], the same for every anchor, or [n, k, d], a set per anchor.
  `side`: arrays with the same leading axes. These names have a meaning: `index` is the number of the example, −1
  for none; `view` is the number of the view, −1 if it is not a view of this step; `label` is the
  class, −1 for none; `as_positive` and `as_negative` are the candidate's weights; `weight`, where
  it is given, is the vector's own weight, by which both are multiplied; `guide` is the vector of
  another model; `place` is the number of the vector among those of its example, such as a token's.
  All groups of one call have the same names.
  """

  vectors: Array
  side: Mapping[str, Array]

  @property
  def per_anchor(self) -> bool:
    return self.vectors.ndim == 3

  def attach(self, **side: Array) -> Group:
    return Group(self.vectors, {**self.side, **side})


class Pairs(NamedTuple):
  """Weights ≥ 0 of pairs, as positives and as negatives; 0 in both: the pair is ignored.

  Where all weights are 0 or 1, masks of bools serve, which then exclude each other, and cost
  less: no logarithm per pair.
  """

  positive: Array
  negative: Array


class Score:
  """How similar two vectors are: the base of frozen dataclasses.

  `score(params, anchors [n, d], candidates [m, d]) -> [n, m]`. With candidates [n, k, d], a set
  per anchor, the result is [n, k]. `init` draws the parameters.

  A score may be computed in two parts: score(params, a, c) = combine(params, prepare(params, a, True),
  prepare(params, c, False)). `prepare` is what concerns one vector alone, for vectors [..., d] with any
  leading axes. It is computed once and not in every tile. By default `combine` is the whole score.

  symmetric: whether score(a, b) = score(b, a). penalized: a score that returns (score, penalty) of
  each pair, or None; `regularizer` is the penalty's weight. has_temperature: whether the score
  divides by temperatures of its own, so that the contrast's temperature must be fixed(1.0).
  """

  symmetric: ClassVar[bool] = False
  has_temperature: ClassVar[bool] = False
  penalized: ClassVar[Any] = None
  regularizer: ClassVar[Any] = 0.0

  def init(self, key: Array, d: int) -> Params:
    return ()

  def __call__(self, params: Params, anchors: Array, candidates: Array) -> Array:
    raise NotImplementedError

  def prepare(self, params: Params, vectors: Array, anchor: bool) -> Any:
    return vectors

  def combine(self, params: Params, anchors: Any, candidates: Any) -> Array:
    return self(params, anchors, candidates)


class Compare(NamedTuple):
  """How anchors are compared with candidates: the same for a search as for the loss.

  relation: `(anchor side, candidate side, similarity) -> Pairs`. score, score_params: the
  similarity. same_set: the first group is the anchors' own. plan: a `pairwise.Plan`.
  """

  relation: Callable[..., Pairs]
  score: Score
  score_params: Params
  same_set: bool
  plan: Any


class Negatives:
  """Where candidates come from: the base of frozen dataclasses.

  `candidates` returns the anchors and the groups that the criterion compares. `groups[0]` are the
  keys, which are the anchors' positives. `examples` is the size of the data. This base leaves
  everything as it is.
  """

  def init(self, rng: Array, keys: Group, examples: int) -> State:
    return ()

  def candidates(
    self, state: State, anchors: Group, groups: tuple[Group, ...], rng: Array, compare: Compare
  ) -> tuple[Group, tuple[Group, ...]]:
    return anchors, groups

  def advance(self, state: State, keys: Group) -> State:
    return state


class Temperature:
  """A temperature, whatever it depends on: the base of frozen dataclasses.

  `value` returns a scalar or one value per anchor. `weigh` returns what is minimized, from the
  losses and the temperatures of the anchors. `advance` moves what is not trained by gradient.
  `size` is the number of anchors that a temperature of its own each may be kept for.

  learns_bias: whether the parameters have `bias`, a number that is added to every logit.
  per_anchor: whether each anchor has a temperature of its own, which moves by the criterion's stats.
  bounds: (smallest, largest), or None.
  """

  learns_bias: ClassVar[Any] = False
  per_anchor: ClassVar[bool] = False
  bounds: ClassVar[Any] = None

  def init(self, size: int) -> tuple[Params, State]:
    return (), ()

  def value(self, params: Params, state: State, side: Mapping[str, Array]) -> Array:
    raise NotImplementedError

  def weigh(self, value: Array, temperature: Array) -> Array:
    return value

  def advance(
    self, state: State, side: Mapping[str, Array], temperature: Array, stats: Mapping[str, Array]
  ) -> State:
    return state


class Outcome(NamedTuple):
  """What a criterion returns.

  `value` [n], one per anchor; `weight` [n], the anchor's share in a mean that leaves out anchors
  without a positive: 0 for those, 1 for others; `stats`, asked for by name, without gradient;
  `memory`, the next one.
  """

  value: Array
  weight: Array
  stats: Mapping[str, Array]
  memory: State = ()


class Criterion:
  """A loss on groups: the base of frozen dataclasses, whose fields are the loss's own numbers.

  learns_bias: whether `__call__` takes `bias`, a number that is added to every logit.
  """

  learns_bias: ClassVar[bool] = False

  def init(self, size: int) -> State:
    """The memory before the first step; `size` is the number of anchors that it may remember."""
    return ()

  def __call__(
    self,
    anchors: Group,
    groups: tuple[Group, ...],
    compare: Compare,
    *,
    temperature: Array,
    memory: State = (),
    stats: tuple[str, ...] = (),
  ) -> Outcome:
    """The value of each anchor; see `contrastax.criteria`."""
    raise NotImplementedError


class Term:
  """A summand of an objective: the base of frozen dataclasses.

  `init(key, seen, examples) -> (params, state)`, and `__call__(params, state, seen, key) ->
  (value, state, metrics)`. `seen` holds what the method's networks returned, by name and view
  (`contrastax.networks`); `examples` is the size of the data. `value` is a scalar; metrics are
  scalars.

  tag: the term's name in parameters, state and metrics. weight: a number, or a schedule.
  """

  tag: str
  weight: float | Schedule

  def init(self, key: Array, seen: Mapping[str, Any], examples: int) -> tuple[Params, State]:
    raise NotImplementedError

  def __call__(
    self, params: Params, state: State, seen: Mapping[str, Any], key: Array
  ) -> tuple[Array, State, Mapping[str, Array]]:
    raise NotImplementedError

  def advance(self, params: Params, state: State, step: Array) -> State:
    """The state after the optimizer's step, where moving averages follow the parameters."""
    return state


@runtime_checkable
class Method(Protocol):
  """A frozen dataclass of its parts, trained by one gradient step at a time.

  `state` is every array that is not trained by gradient, one entry per part. `objective`
  returns the scalar to minimize, the next state, and scalar metrics, `loss` among them.
  `advance` is called after the optimizer's step. A method with `step(optimizer, plain)` replaces
  the whole step: it returns a function `(train state, batch) -> (train state, metrics)`, and may
  call `plain`, the step that it replaces.
  """

  def init(self, key: Array, batch: Batch) -> tuple[Params, State]: ...

  def objective(
    self, params: Params, state: State, batch: Batch, key: Array
  ) -> tuple[Array, tuple[State, Mapping[str, Array]]]: ...

  def advance(self, params: Params, state: State, step: Array) -> State: ...


class TrainState(NamedTuple):
  """All of a run. Saving it and the config is saving the run.

  Keys are never carried: they are folded from the seed (see `key_for`).
  """

  step: Array
  seed: Array
  params: Params
  state: State
  opt_state: Any


def key_for(seed: Array | int, name: str, step: Array | int = 0) -> Array:
  """The random key of one purpose at one step: a pure function of its arguments."""
  return jax.random.fold_in(named(jax.random.key(seed), name), step)


def named(key: Array, name: str) -> Array:
  """The key that one of several parts, called `name`, gets from a common one."""
  return jax.random.fold_in(key, zlib.crc32(name.encode()))


def per_example(key: Array, index: Array) -> Array:
  """A key for each example, folded from its `index` [n]; so not from its place or device."""
  return jax.vmap(functools.partial(jax.random.fold_in, key))(index)


def join(*trees):
  """One tree (a group, a side) of all rows of several, in order."""
  return jax.tree.map(lambda *rows: jnp.concatenate(rows), *trees)


def named_leaves(tree: Any, is_leaf: Callable[[Any], bool] | None = None) -> list[tuple[str, Any]]:
  """The leaves of a tree with their paths, such as `tokens/ids`; the path of a single leaf is ""."""
  name = functools.partial(jax.tree_util.keystr, simple=True, separator="/")
  found = jax.tree_util.tree_leaves_with_path(tree, is_leaf=is_leaf)
  return [(name(path), leaf) for path, leaf in found]


def embedding_of(outputs: Any) -> Any:
  """The embedding among an encoder's outputs: its entry `embedding`, or the array itself."""
  return outputs["embedding"] if isinstance(outputs, Mapping) else outputs
