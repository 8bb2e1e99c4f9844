"""Refreshes: hard negatives and clusters that follow the encoder."""

from __future__ import annotations

import dataclasses

import numpy as np

from contrastax import data
from contrastax.core import Method, TrainState, UserError, check_integer, check_seed
from contrastax.evaluation import embed
from contrastax.negatives import mine
from contrastax.nouns import nearest
from contrastax.paths import select
from contrastax.training.refresh import Refresh


@dataclasses.dataclass(frozen=True, kw_only=True)
class mined(Refresh):
  """The hardest negatives of every example among all examples, by the encoder as it is then.

  The search is that of `negatives.mine`.

  The batch gets them as related examples: `hard_image` [n, k, …] for the field `image`, and
  `hard_index` [n, k]. Until the first refresh they are drawn at random.

  Vectors are embeddings of the encoders themselves, before any projection.

  Args:
    every: steps between two refreshes.
    k: negatives of each example.
    skip: how many of the very hardest are left out, since they may be false negatives.
    at_most: the largest similarity of a negative, or None.
    corpus: (network, field) in which negatives are searched; None: the evaluated network and its
      input, so the hardest negative is the most similar other *query*. For questions and passages
      it is ("encoder", "passage"), or ("other_encoder", "passage") with two encoders.
    prefix: of the names of the related fields: "hard" gives `hard_image`, `hard_index`.
    seed: the seed of the random draw for the first segment.
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

  def begun(self, source):
    arrays, size = _arrays(source)
    if self.corpus is not None and self.corpus[1] not in arrays:
      raise UserError(
        f"mined: corpus: the data have no field {self.corpus[1]!r}{nearest(self.corpus[1], arrays)}"
      )
    if self.prefix in ("file", "allow_pickle"):
      raise UserError(f"mined: prefix must not be {self.prefix!r}, an argument of np.savez")
    if size <= self.k + self.skip:
      raise UserError(f"mined: {self.k + self.skip} negatives of {size} examples are too many")
    # At k successive distances of 1 … size − 1, so never the example itself and none twice.
    first = np.random.default_rng(self.seed).integers(0, size - 1, (size, 1))
    steps = (first + np.arange(self.k)) % (size - 1) + 1
    return {self.prefix: ((np.arange(size)[:, None] + steps) % size).astype(np.int32)}

  def arrays(self, method, state, source):
    arrays, size = _arrays(source)
    evaluated = method.evaluated
    queries = features(method, state, evaluated.network, evaluated.input, arrays)
    corpus = queries if self.corpus is None else features(method, state, *self.corpus, arrays)
    own = np.arange(size, dtype=np.int32)[:, None]
    bound = {} if self.at_most is None else {"at_most": self.at_most}
    _, places = mine(queries, corpus, own, k=self.k, skip=self.skip, **bound)
    return {self.prefix: np.asarray(places)}

  def apply(self, source, arrays):
    return source.replace(related={self.prefix: arrays[self.prefix]})


@dataclasses.dataclass(frozen=True, kw_only=True)
class clustered(Refresh):
  """Batches of one cluster each, by k-means of the encoder's embeddings as it is.

  Until the first refresh batches are shuffled.

  Args:
    every: steps between two refreshes.
    count: the number of clusters.
    seed: of k-means and of the order.
  """

  every: int
  count: int
  seed: int = 0

  def __post_init__(self):
    check_integer("clustered: every", self.every, 1)
    check_integer("clustered: count", self.count, 1)
    check_seed(self.seed)

  def begun(self, source):
    size = _arrays(source)[1]
    if self.count > size:
      raise UserError(f"clustered: {self.count} clusters of {size} examples are too many")
    if not isinstance(source.order, data.shuffled):
      raise UserError(
        f"clustered: its batches replace those of the order {type(source.order).__name__}; leave the "
        "order out"
      )
    return {"cluster": np.zeros(size, np.int32)}

  def arrays(self, method, state, source):
    from sklearn.cluster import KMeans

    arrays, _ = _arrays(source)
    evaluated = method.evaluated
    z = features(method, state, evaluated.network, evaluated.input, arrays)
    found = KMeans(self.count, n_init=1, random_state=self.seed).fit(z)
    return {"cluster": found.labels_.astype(np.int32)}

  def apply(self, source, arrays):
    order = data.grouped(arrays["cluster"], source.batch_size, seed=self.seed)
    return source.replace(order=order)


def features(method: Method, state: TrainState, network: str, field, arrays) -> np.ndarray:
  """Embeddings [size, d] of a field, or of several, by a network of the method."""
  if network not in state.params:
    raise UserError(f"the method has no network {network!r}{nearest(network, state.params)}")
  for name in (field,) if isinstance(field, str) else field:
    if name not in arrays:
      raise UserError(f"the data have no field {name!r}{nearest(name, arrays)}")
  own = state.params[network], state.state[network]
  return embed(method.network(network), *own, select(arrays, field))


def _arrays(source):
  if not isinstance(source, data.Resident):
    raise UserError(
      f"a refresh reads all data, so it takes data.Resident, not {type(source).__name__}"
    )
  return source.arrays, source.size
