"""Towers: any number of inputs, each with its own networks."""

from __future__ import annotations

import dataclasses

from typing_extensions import override

from contrastax.core import Array, Batch, Encoder, Metrics, Recipe, UserError
from contrastax.methods.base import BaseMethod, Evaluated
from contrastax.networks import Net
from contrastax.paths import embedding
from contrastax.views import unchanged


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tower:
  """One input and its networks.

  Args:
    tag: the name of the tower. Terms read its vectors by this name.
    input: the field of the batch, or a tuple of fields.
    encoder: the encoder.
    projection: the projection, or None.
    views: the recipe of its view.

  Example:
    >>> from contrastax import encoders, methods
    >>> head = encoders.projection((), 64)
    >>> tower = methods.Tower(
    ...   tag="text", input="text", encoder=encoders.text(), projection=head
    ... )
    >>> tower.tag
    'text'
  """

  tag: str
  input: str | tuple[str, ...]
  encoder: Encoder
  projection: Encoder | None = None
  views: Recipe = unchanged()


# Names that are already used in `seen` or in the state.
RESERVED = ("batch", "examples", "side", "step", "target", "terms", "view", "z")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Towers(BaseMethod):
  """Encodes each of several inputs with its own networks; the terms are the objective.

      z_t = g_t(f_t(x_t))
      objective = Σ over terms of weight · term

  Terms read z_t by the tag of the tower, such as "image". The path "z" names all towers, and "z.0" the
  first one. The encoder of the first tower is evaluated and kept after training.

  Args:
    towers: the towers.
    terms: at least one term.
    examples: the size of the data set, for parts with a table of all examples.

  Example:
    The loss of CLIP with terms that spread each modality over the sphere:

    >>> from contrastax import encoders, losses
    >>> from contrastax.methods import Tower, Towers
    >>> from contrastax.relations import other_view, same_example
    >>> from contrastax.terms import Apply, Contrast
    >>> head = encoders.projection((), 64)
    >>> method = Towers(
    ...   towers=(
    ...     Tower(tag="image", input="image", encoder=encoders.convnet(), projection=head),
    ...     Tower(tag="text", input="text", encoder=encoders.text(), projection=head),
    ...   ),
    ...   terms=(
    ...     Contrast(anchors="z", rows=2, relation=same_example() & other_view()),
    ...     Apply(
    ...       loss=losses.uniformity, of=("image", "text"), how="each", weight=0.5, tag="uniformity"
    ...     ),
    ...   ),
    ... )
  """

  towers: tuple[Tower, ...]

  def __post_init__(self):
    super().__post_init__()
    tags = [tower.tag for tower in self.towers]
    if not tags or len({*tags}) < len(tags):
      raise UserError(f"Towers: towers must be a tuple of towers with different tags, not {tags}")
    for tag in tags:
      if not tag.isidentifier() or tag in RESERVED:
        raise UserError(
          f"Towers: a tag must be a name other than {', '.join(RESERVED)}, not {tag!r}"
        )
    if not self.terms:
      raise UserError(
        "the terms are the objective of Towers, and there are none; give terms=(Contrast(…),)"
      )

  @property
  @override
  def evaluated(self) -> Evaluated:
    first = self.towers[0]
    return Evaluated(f"{first.tag}_encoder", first.input, first.views)

  @override
  def network(self, name: str) -> Encoder:
    tag, _, field = name.rpartition("_")
    (tower,) = (tower for tower in self.towers if tower.tag == tag)
    network = tower.encoder if field == "encoder" else tower.projection
    if network is None:
      raise UserError(f"Towers: the tower {tag!r} has no projection")
    return network

  @override
  def see(self, net: Net, batch: Batch) -> tuple[Array, Metrics] | None:
    for view, tower in enumerate(self.towers):
      x = net.views((tower.views,), batch, tower.input, first=view)
      z = embedding(net(f"{tower.tag}_encoder", x))
      if tower.projection is not None:
        z = net(f"{tower.tag}_projection", z)
      net.record(tower.tag, z)
      net.record("z", z)
