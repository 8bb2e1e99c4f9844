"""Pairs: anchors, their positives, and negatives that come with the data."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from typing_extensions import override

from contrastax.core import Array, Batch, Encoder, Metrics, Recipe, UserError
from contrastax.methods.base import ContrastiveMethod, Evaluated
from contrastax.networks import Net
from contrastax.paths import embedding, fields
from contrastax.terms import Contrast, Given
from contrastax.views import unchanged


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pairs(ContrastiveMethod):
  """Contrasts given pairs, such as question and passage, text and code, or image and caption.

      a = g(f(anchor)),   p_k = g'(f'(positive_k)),   n_k = g'(f'(negative_k))
      L = mean over anchors of InfoNCE(a; p, the p of other examples, n)

  As in DPR, the positives of the other examples of the batch are negatives, and so are all given
  negatives of all anchors.

  Args:
    encoder: f, the encoder of anchors. It is evaluated.
    projection: g, or None.
    other_encoder: f', the encoder of positives and negatives. None means f.
    other_projection: g'. It needs `other_encoder`. Without `other_encoder`, g' is g.
    inputs: the fields of anchors and of positives; each a name, or a tuple of names.
    negative: the field of given negatives [n, k, …], or None.
    negative_index: the field with the example numbers of the negatives [n, k]. A given negative with
      the anchor's own number is left out. None: the negatives are not examples of the data set.
    per_anchor: whether an anchor is compared with its own given negatives only.
    positives: K if the field of positives is [n, K, …]; 0 if each anchor has one positive.
    views: the recipe of anchors.
    other_views: the recipe of positives and negatives.

  The other arguments are those of `ContrastiveMethod`.

  Example:
    The field `hard_passage` comes from `related={"hard": places}` of `data.Resident`, or from
    `training.mined`:

    >>> from contrastax import encoders, methods
    >>> method = methods.Pairs(
    ...   encoder=encoders.text(),
    ...   inputs=("question", "passage"),
    ...   negative="hard_passage",
    ...   negative_index="hard_index",
    ... )

  References:
    Karpukhin et al., "Dense passage retrieval" (DPR), 2020, arXiv 2004.04906.
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

  contrasted: ClassVar[Mapping[str, Any]] = {"anchors": "anchor", "keys": "positive"}

  def __post_init__(self):
    super().__post_init__()
    if self.other_projection is not None and self.other_encoder is None:
      raise UserError("Pairs: other_projection needs other_encoder, and there is none; give both")

  @property
  @override
  def main(self) -> Contrast:
    given = Given("negative", self.negative_index and "negative_index", self.per_anchor)
    return dataclasses.replace(super().main, given=(given,) if self.negative else ())

  @property
  @override
  def evaluated(self) -> Evaluated:
    return Evaluated("encoder", self.inputs[0], self.views)

  @override
  def see(self, net: Net, batch: Batch) -> tuple[Array, Metrics] | None:
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
    net.record("anchor", self._encode(net, one))
    net.record("positive", self._encode(net, keys, other=True))
    if self.negative:
      given, view = fields(batch, self.negative, "Pairs"), max(keys) + 1
      n, k = jax.tree.leaves(given)[0].shape[:2]
      rows = jax.tree.map(lambda x: x.reshape(n * k, *x.shape[2:]), given)
      own = (index[:, None] * k + jnp.arange(k, dtype=index.dtype)).reshape(-1)
      z = self._encode(net, self._draw(net, rows, own, view), other=True)
      net.record("negative", z[view].reshape(n, k, -1))
      if self.negative_index:
        net.record("negative_index", fields(batch, self.negative_index, "Pairs"))

  def _draw(self, net: Net, x: Any, index: Array, view: int) -> dict[int, Any]:
    return net.views((self.other_views,), {"x": x, "index": index}, "x", first=view)

  def _encode(self, net: Net, x: Any, *, other: bool = False) -> Any:
    """Applies the networks of anchors, or with `other` those of positives and negatives."""
    if other and self.other_encoder is not None:
      h = embedding(net("other_encoder", x))
      return h if self.other_projection is None else net("other_projection", h)
    h = embedding(net("encoder", x))
    return h if self.projection is None else net("projection", h)
