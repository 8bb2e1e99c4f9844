"""Pairs: anchors, their positives, and negatives that come with the data."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from contrastax.core import Encoder, Recipe, UserError
from contrastax.methods.base import ContrastiveMethod, Evaluated
from contrastax.paths import embedding, fields
from contrastax.terms import Contrast, Given
from contrastax.views import unchanged


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pairs(ContrastiveMethod):
  """Contrast of given pairs: question and passage, text and code, image and caption.

    a = g(f(anchor)),   p_k = g'(f'(positive_k)),   n_k = g'(f'(negative_k))
    L = mean over anchors of InfoNCE(a; p, other examples' p, n)

  As in DPR (Karpukhin et al. 2020, arXiv 2004.04906): the batch's other positives are negatives,
  and so are all given negatives of all anchors.

  Args:
    encoder, projection: f and g of anchors; the projection may be None.
    other_encoder, other_projection: f' and g' of positives and negatives; None: f and g.
    inputs: the fields of anchors and of positives; each a name, or a tuple of names.
    negative: the field of given negatives [n, k, …], or None.
    negative_index: the field with the example numbers of the negatives [n, k]. A given negative with
      the anchor's own number is left out. None: the negatives are not examples of the data set.
    per_anchor: whether an anchor is compared with its own given negatives alone.
    positives: 0: one positive per anchor. K: the positives' field is [n, K, …].
    views: the recipe of anchors. other_views: the recipe of positives and negatives.

  Example, with `related={"hard": places}` of `data.Resident`, or with `training.mined`:
    Pairs(
      encoder=…, inputs=("question", "passage"), negative="hard_passage", negative_index="hard_index"
    )
  """

  encoder: Encoder
  projection: Encoder | None = None
  other_encoder: Encoder | None = None
  other_projection: Encoder | None = None
  inputs: tuple[str | tuple[str, ...], str | tuple[str, ...]] = ("anchor", "positive")
  negative: str | tuple[str, ...] | None = None
  negative_index: str | None = None
  per_anchor: bool = False
  positives: int = 0
  views: Recipe = unchanged()
  other_views: Recipe = unchanged()

  contrasted: ClassVar = {"anchors": "anchor", "keys": "positive"}

  def __post_init__(self):
    super().__post_init__()
    if self.other_projection is not None and self.other_encoder is None:
      raise UserError("Pairs: other_projection belongs to other_encoder, and there is none")

  @property
  def main(self) -> Contrast:
    given = Given("negative", self.negative_index and "negative_index", self.per_anchor)
    return dataclasses.replace(super().main, given=(given,) if self.negative else ())

  @property
  def evaluated(self):
    return Evaluated("encoder", self.inputs[0], self.views)

  def see(self, net, batch):
    one = net.views((self.views,), batch, self.inputs[0])
    many, index = fields(batch, self.inputs[1], "Pairs"), batch["index"]
    keys = {1: many}
    if self.positives:
      for x in jax.tree.leaves(many):
        if x.ndim < 2 or x.shape[1] != self.positives:
          raise UserError(
            f"Pairs: with positives={self.positives} the field {self.inputs[1]!r} must be "
            f"[n, {self.positives}, …], not {list(x.shape)}"
          )
      keys = {k + 1: jax.tree.map(lambda x, k=k: x[:, k], many) for k in range(self.positives)}
    keys = {view: self._draw(net, x, index, view)[view] for view, x in keys.items()}
    other = ("encoder", "projection") if self.other_encoder is None else OTHER
    net.record("anchor", self._tower(net, ("encoder", "projection"), one))
    net.record("positive", self._tower(net, other, keys))
    if self.negative:
      given, view = fields(batch, self.negative, "Pairs"), max(keys) + 1
      n, k = jax.tree.leaves(given)[0].shape[:2]
      rows = jax.tree.map(lambda x: x.reshape(n * k, *x.shape[2:]), given)
      own = (index[:, None] * k + jnp.arange(k, dtype=index.dtype)).reshape(-1)
      z = self._tower(net, other, self._draw(net, rows, own, view))
      net.record("negative", z[view].reshape(n, k, -1))
      if self.negative_index:
        net.record("negative_index", fields(batch, self.negative_index, "Pairs"))

  def _draw(self, net, x, index, view):
    return net.views((self.other_views,), {"x": x, "index": index}, "x", first=view)

  def _tower(self, net, names, x):
    encoder, projection = names
    h = embedding(net(encoder, x))
    return h if getattr(self, projection) is None else net(projection, h)


OTHER = ("other_encoder", "other_projection")
