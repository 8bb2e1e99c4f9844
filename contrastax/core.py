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
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array
Params = Any
State = Any
Batch = Mapping[str, Array]
"""Arrays by name, leading axis = the *global* batch. Always `index` (int32, the
example's place in its data set); then `image`, `label`, … as the source has."""


class UserError(ValueError):
  """Invalid user input. The message is one line: the problem, the value found and the fix."""


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


def check_seed(value: Any) -> int:
  """The seed as a Python integer; raises UserError unless it is one, from 0 to 2**32 − 1."""
  return check_integer("seed", value, 0, 2**32 - 1)


class Encoder(NamedTuple):
  """A pure network.

  `init(key, x) -> (params, state)`; `apply(params, state, x, *, key, train) ->
  (embedding [n, d], state)`, where `train` is a Python bool and `key` may be None
  for an encoder without randomness. `state` holds what is not trained by gradient,
  such as BatchNorm's running statistics.
  """

  init: Callable[..., tuple[Params, State]]
  apply: Callable[..., tuple[Array, State]]


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
  class, −1 for none; `as_positive` and `as_negative` are the candidate's weights; `guide` is the
  vector of another model. All groups of one call have the same names.
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


class Score(Protocol):
  """Where vectors meet: `score(params, anchors [n, d], candidates [m, d]) -> [n, m]`.

  With candidates [n, k, d], a set per anchor, the result is [n, k].
  """

  def init(self, key: Array, d: int) -> Params: ...

  def __call__(self, params: Params, anchors: Array, candidates: Array) -> Array: ...


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


class Negatives(Protocol):
  """Where candidates come from. `groups[0]` are the keys: the anchors' positives.

  `examples`: their number in the data, for what keeps something of each.
  """

  def init(self, key: Array, keys: Group, examples: int) -> State: ...

  def candidates(
    self, state: State, anchors: Group, groups: tuple[Group, ...], key: Array, compare: Compare
  ) -> tuple[Group, tuple[Group, ...]]: ...

  def advance(self, state: State, keys: Group) -> State: ...


class Temperature(Protocol):
  """A temperature, whatever it depends on.

  `value` gives a scalar or one per anchor; `weigh` what is minimised, from the losses
  and temperatures per anchor; `advance` moves what is not trained by gradient.
  """

  def init(self, size: int) -> tuple[Params, State]: ...

  def value(self, params: Params, state: State, side: Mapping[str, Array]) -> Array: ...

  def weigh(self, value: Array, temperature: Array) -> Array: ...

  def advance(
    self, state: State, side: Mapping[str, Array], temperature: Array, stats: Mapping[str, Array]
  ) -> State: ...


class Contrast(NamedTuple):
  """What a loss on groups returns.

  `value` [n], one per anchor; `stats`, asked for by name, without gradient;
  `memory`, for a loss that has one, else ().
  """

  value: Array
  stats: Mapping[str, Array]
  memory: State = ()


class Embedded(NamedTuple):
  """What a contrastive method states: who the anchors and who their keys are.

  `same_set`: the keys' vectors are the anchors' own.
  """

  anchors: Group
  keys: Group
  state: State
  same_set: bool


class Method(Protocol):
  """A frozen dataclass of its parts, trained by one gradient step at a time.

  `state` is every array that is not trained by gradient, one entry per part. `objective`
  returns the scalar to minimise, the next state, and scalar metrics, `loss` among them.
  `advance` is called after the optimiser's step.
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
