"""Refreshes that compute hard negatives or clusters with the current encoder."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from typing_extensions import override

from contrastax import data
from contrastax.core import (
  HasEvaluated,
  Method,
  Source,
  TrainState,
  UserError,
  check_integer,
  check_seed,
)
from contrastax.data.source import OrderedSource
from contrastax.evaluation import embed
from contrastax.negatives import mine
from contrastax.nouns import nearest
from contrastax.paths import select
from contrastax.training.refresh import Arrays, Refresh


@dataclasses.dataclass(frozen=True, kw_only=True)
class mined(Refresh):
  """Mines the hardest negatives of every example among all examples, by exact search.

  They are related examples in a batch: `hard_image` [n, k, …] for the field `image`, and
  `hard_index` [n, k]. In the first segment they are drawn at random. The vectors that are compared
  are embeddings, before any projection. `negatives.mine` describes the search.

  Args:
    every: number of steps between two refreshes.
    k: number of negatives per example.
    skip: number of the hardest negatives that are left out, because they may be false negatives.
    at_most: largest similarity of a negative. None means no limit.
    corpus: (network, field): the network that embeds the candidates, and the field that is searched.
      None means the evaluated network and its input, so that anchors are compared with anchors. For
      questions and passages, use ("encoder", "passage"), or ("other_encoder", "passage") with two
      encoders.
    prefix: prefix of the related fields: "hard" gives `hard_image` and `hard_index`.
    seed: 0 to 2³² − 1, for the negatives of the first segment.

  Raises:
    UserError: an argument is out of range, or does not fit the data or the method.

  Example:
    >>> import numpy as np
    >>> from contrastax import data, training
    >>> refresh = training.mined(every=100, k=3)
    >>> source = data.Resident({"x": np.zeros((8, 2), np.float32)}, batch_size=4)
    >>> refresh.apply(source, refresh.begun(source)).batch(0)["hard_x"].shape
    (4, 3, 2)

  References:
    Xiong et al., ANCE, 2020, arXiv 2007.00808.
  """

  every: int
  k: int
  skip: int = 0
  at_most: float | None = None
  corpus: tuple[str, str] | None = None
  prefix: str = "hard"
  seed: int = 0

  def __post_init__(self):
    check_integer("mined: every", self.every, 1)
    check_integer("mined: k", self.k, 1)
    check_integer("mined: skip", self.skip, 0)
    check_seed(self.seed)
    if self.corpus is not None and (isinstance(self.corpus, str) or len(self.corpus) != 2):
      raise UserError(
        f"mined: corpus must be (network, field), such as ('encoder', 'image'), not {self.corpus!r}"
      )

  @override
  def begun(self, source: Source) -> Arrays:
    resident = _ordered(source)
    size = resident.size
    if self.corpus is not None and self.corpus[1] not in resident.arrays:
      raise UserError(
        f"mined: corpus: the data have no field {self.corpus[1]!r}"
        f"{nearest(self.corpus[1], resident.arrays.keys())}"
      )
    if self.prefix in ("file", "allow_pickle"):
      raise UserError(
        f"mined: prefix must not be {self.prefix!r}, an argument of np.savez; choose another one"
      )
    if size <= self.k + self.skip:
      raise UserError(
        f"mined: {self.k + self.skip} negatives of {size} examples are too many; lower k or skip"
      )
    # The negatives are at k successive distances in 1 … size − 1, so they are distinct, and never
    # the example itself.
    first = np.random.default_rng(self.seed).integers(0, size - 1, (size, 1))
    distances = (first + np.arange(self.k)) % (size - 1) + 1
    return {self.prefix: ((np.arange(size)[:, None] + distances) % size).astype(np.int32)}

  @override
  def arrays(self, method: Method, state: TrainState, source: Source) -> Arrays:
    resident, queries = _ordered(source), _evaluated_features(method, state, source)
    corpus = queries
    if self.corpus is not None:
      corpus = features(method, state, *self.corpus, resident.arrays)
    own = np.arange(resident.size, dtype=np.int32)[:, None]
    _, places = mine(queries, corpus, own, k=self.k, skip=self.skip, at_most=self.at_most)
    return {self.prefix: np.asarray(places)}

  @override
  def apply(self, source: Source, arrays: Arrays) -> Source:
    return _ordered(source).replace(related={self.prefix: arrays[self.prefix]})


@dataclasses.dataclass(frozen=True, kw_only=True)
class clustered(Refresh):
  """Draws each batch from one cluster of the current embeddings. The clusters are those of k-means.

  In the first segment the order is `data.shuffled`.

  Args:
    every: number of steps between two refreshes.
    count: number of clusters.
    seed: 0 to 2³² − 1, for k-means and for the order.

  Raises:
    UserError: an argument is out of range, or does not fit the data or the method.

  Example:
    >>> from contrastax import training
    >>> training.clustered(every=500, count=10)
    clustered(every=500, count=10, seed=0)
  """

  every: int
  count: int
  seed: int = 0

  def __post_init__(self):
    check_integer("clustered: every", self.every, 1)
    check_integer("clustered: count", self.count, 1)
    check_seed(self.seed)

  @override
  def begun(self, source: Source) -> Arrays:
    resident = _ordered(source)
    size = resident.size
    if self.count > size:
      raise UserError(
        f"clustered: {self.count} clusters of {size} examples are too many; lower count"
      )
    if not isinstance(resident.order, data.shuffled):
      raise UserError(
        "clustered: its batches replace those of the order "
        f"{type(resident.order).__name__}; leave the order out"
      )
    return {"cluster": np.zeros(size, np.int32)}

  @override
  def arrays(self, method: Method, state: TrainState, source: Source) -> Arrays:
    from sklearn.cluster import KMeans

    embeddings = _evaluated_features(method, state, source)
    means = KMeans(self.count, n_init=1, random_state=self.seed)  # pyright: ignore[reportArgumentType]  # its stub allows only "auto"
    return {"cluster": np.asarray(means.fit_predict(embeddings), np.int32)}

  @override
  def apply(self, source: Source, arrays: Arrays) -> Source:
    order = data.grouped(arrays["cluster"], source.batch_size, seed=self.seed)
    return _ordered(source).replace(order=order)


def features(
  method: Method,
  state: TrainState,
  network: str,
  field: str | tuple[str, ...],
  arrays: Mapping[str, Any],
) -> np.ndarray:
  """Embeds one or several fields of all examples.

  Args:
    method: a method that has `evaluated` and `network`.
    state: its current state.
    network: name of the network.
    field: name or names of the fields that the network encodes.
    arrays: fields of all examples by name.

  Returns:
    Embeddings [size, d].

  Raises:
    UserError: the method has no such network, or the data have no such field.
  """
  if network not in state.params:
    raise UserError(f"the method has no network {network!r}{nearest(network, state.params)}")
  for name in (field,) if isinstance(field, str) else field:
    if name not in arrays:
      raise UserError(f"the data have no field {name!r}{nearest(name, arrays.keys())}")
  own = state.params[network], state.state[network]
  return embed(_checked(method).network(network), *own, select(arrays, field))


def _evaluated_features(method: Method, state: TrainState, source: Source) -> np.ndarray:
  evaluated = _checked(method).evaluated
  arrays = _ordered(source).arrays
  return features(method, state, evaluated.network, evaluated.input, arrays)


def _checked(method: Method) -> HasEvaluated:
  if not isinstance(method, HasEvaluated):
    raise UserError(
      "a refresh embeds the data, so its method must have evaluated and network, as "
      f"methods.BaseMethod has, unlike {type(method).__name__}"
    )
  return method


def _ordered(source: Source) -> OrderedSource:
  if not isinstance(source, OrderedSource):
    raise UserError(
      f"a refresh reads all data, so its source must be data.Resident or data.Stream, not {type(source).__name__}"
    )
  return source
