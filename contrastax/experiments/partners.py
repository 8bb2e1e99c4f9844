"""The retrieval of partners, for methods that contrast two inputs of each example."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from contrastax.core import Encoder, HasEvaluated, TrainState
from contrastax.data import Column
from contrastax.data.index import checksum
from contrastax.evaluation import embed
from contrastax.experiments.measures import first_rows
from contrastax.methods import CLIP, Pairs, Towers
from contrastax.pairwise import cosine, top_k
from contrastax.paths import fields
from contrastax.training.description import composed

DEPTHS = (1, 10)
CORPUS = 10_000
"""The largest number of examples among which partners are searched."""


class Side(NamedTuple):
  """One of the two inputs of a method.

  Args:
    field: the field of the data, or several.
    networks: the names of the encoder and of the projection, if there is one.
    encoder: the encoder, with the projection.
  """

  field: str | tuple[str, ...]
  networks: tuple[str, ...]
  encoder: Encoder

  @property
  def title(self) -> str:
    """The name of the input in tables."""
    return self.field if isinstance(self.field, str) else "+".join(self.field)

  def vectors(self, state: TrainState, arrays: Mapping[str, Any]) -> np.ndarray:
    """Returns the vectors [n, d] that the loss compares, without random views."""
    if len(self.networks) == 1:
      params, own = state.params[self.networks[0]], state.state[self.networks[0]]
    else:
      params, own = (
        dict(zip(("encoder", "projection"), (tree[name] for name in self.networks), strict=True))
        for tree in (state.params, state.state)
      )
    return embed(self.encoder, params, own, self.inputs(arrays))

  def inputs(self, arrays: Mapping[str, Any]) -> Any:
    """Returns the inputs of the encoder."""
    return fields(arrays, self.field, "the data")


def partners(
  method: HasEvaluated, states: Mapping[str, TrainState], arrays: Mapping[str, Any]
) -> dict[str, Any] | None:
  """Measures how often the partner of an input is among the nearest inputs of the other kind.

  The partner of an image is its own text, for example. Equal inputs, such as the same text of two
  images, are one candidate. The search is exact, by cosine similarity, in both directions. The
  networks have their last weights, without an average.

  Args:
    method: the method.
    states: {row: state}.
    arrays: the fields of the test examples, of which the first 10,000 are used.

  Returns:
    `examples`, the number of examples, and `recall`: {row: {"image → text recall@1": …}}, without
    values of k that are not below the number of candidates. None for a method without two inputs.
  """
  sides = _sides(method)
  if sides is None:
    return None
  arrays = first_rows(arrays, CORPUS)
  codes = [_codes(side.inputs(arrays)) for side in sides]
  recall: dict[str, dict[str, float]] = {}
  for row, state in states.items():
    vectors = [side.vectors(state, arrays) for side in sides]
    recall[row] = {
      f"{sides[a].title} → {sides[b].title} recall@{k}": value
      for a, b in ((0, 1), (1, 0))
      for k, value in recall_of_partners(vectors[a], vectors[b], codes[b]).items()
    }
  return {"examples": len(codes[0]), "recall": recall} if all(recall.values()) else None


def recall_of_partners(
  queries: np.ndarray, partners: np.ndarray, codes: np.ndarray
) -> dict[int, float]:
  """Returns the share of queries whose partner is among the k nearest candidates, by k.

  Args:
    queries: [n, d].
    partners: [n, d], the partner of each query.
    codes: [n], equal numbers for equal partners, which are one candidate.

  Returns:
    The shares. They are NaN if a vector is not finite.
  """
  _, first, place = np.unique(codes, return_index=True, return_inverse=True)
  depths = [k for k in DEPTHS if k < len(first)]
  if not depths or not (np.isfinite(queries).all() and np.isfinite(partners).all()):
    return dict.fromkeys(depths, float("nan"))
  _, nearest = top_k(queries, partners[first], max(depths), score=cosine())
  hit = np.asarray(nearest) == place[:, None]
  return {k: float(hit[:, :k].any(1).mean()) for k in depths}


def _codes(inputs: Any) -> np.ndarray:
  """Returns a checksum of each example, [n]."""
  columns = [
    leaf.codes.tolist() if isinstance(leaf, Column) else [checksum(row.tobytes()) for row in leaf]
    for leaf in jax.tree.leaves(inputs)
  ]
  return np.array([hash(row) for row in zip(*columns, strict=True)])


def _sides(method: HasEvaluated) -> tuple[Side, Side] | None:
  """Returns the two inputs of a method, or None if it has another number of inputs."""
  if isinstance(method, CLIP):
    names = [("encoder", "projection"), ("other_encoder", "other_projection")]
    inputs = method.inputs
  elif isinstance(method, Pairs) and not method.positives:
    first = ("encoder", "projection") if method.projection is not None else ("encoder",)
    with_other = ("other_encoder", "other_projection")
    other = with_other if method.other_projection is not None else with_other[:1]
    names, inputs = [first, first if method.other_encoder is None else other], method.inputs
  elif isinstance(method, Towers) and len(method.towers) == 2:
    names = [
      (f"{tower.tag}_encoder", *((f"{tower.tag}_projection",) if tower.projection else ()))
      for tower in method.towers
    ]
    inputs = tuple(tower.input for tower in method.towers)
  else:
    return None
  if inputs[0] == inputs[1]:  # The partner of an example is the example itself.
    return None
  one, two = (
    Side(field, own, _encoder(method, own)) for field, own in zip(inputs, names, strict=True)
  )
  return one, two


def _encoder(method: HasEvaluated, names: tuple[str, ...]) -> Encoder:
  networks = [method.network(name) for name in names]
  return composed(*networks) if len(networks) == 2 else networks[0]
