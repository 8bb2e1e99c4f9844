"""Towers: any number of inputs, each with networks of its own."""

from __future__ import annotations

import dataclasses

from contrastax.core import Encoder, Recipe, UserError
from contrastax.methods.base import BaseMethod, Evaluated
from contrastax.paths import embedding
from contrastax.views import unchanged


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tower:
  """One input and its networks.

  Args:
    tag: the tower's name, under which its vectors are seen.
    input: the field of the batch, or a tuple of fields.
    encoder, projection: its networks; the projection may be None.
    views: the recipe of its view.
  """

  tag: str
  input: str | tuple[str, ...]
  encoder: Encoder
  projection: Encoder | None = None
  views: Recipe = unchanged()


RESERVED = ("batch", "examples", "side", "step", "target", "terms", "view", "z")
"""What terms see besides towers, or what the state has."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Towers(BaseMethod):
  """Several inputs of each example, each through networks of its own; terms state what is minimized.

    z_t = g_t(f_t(x_t))

  Terms read z_t by the tag of the tower, such as "image". The path "z" names all towers together, and
  "z.0" the first one.

  Example, CLIP's loss with terms that spread each modality over the sphere:

    Towers(
      towers=(Tower(tag="image", input="image", …), Tower(tag="text", input="text", …)),
      terms=(
        Contrast(anchors="z", rows=2, relation=same_example() & other_view()),
        Apply(loss=losses.uniformity, of=("image", "text"), how="each", weight=0.5, tag="uniformity"),
      ),
    )

  The first tower's encoder is evaluated and kept after training.
  """

  towers: tuple[Tower, ...]

  def __post_init__(self):
    super().__post_init__()
    tags = [tower.tag for tower in self.towers]
    if not tags or len({*tags}) < len(tags):
      raise UserError(f"Towers needs towers with tags of their own, not {tags}")
    for tag in tags:
      if not tag.isidentifier() or tag in RESERVED:
        raise UserError(
          f"Towers: a tag must be a name, and not one of {', '.join(RESERVED)}; found {tag!r}"
        )
    if not self.terms:
      raise UserError("Towers minimizes its terms, and has none; give terms=(Contrast(…),)")

  @property
  def evaluated(self):
    first = self.towers[0]
    return Evaluated(f"{first.tag}_encoder", first.input, first.views)

  def network(self, name: str) -> Encoder:
    tag, _, field = name.rpartition("_")
    (tower,) = (tower for tower in self.towers if tower.tag == tag)
    return tower.encoder if field == "encoder" else tower.projection

  def see(self, net, batch):
    for view, tower in enumerate(self.towers):
      x = net.views((tower.views,), batch, tower.input, first=view)
      z = embedding(net(f"{tower.tag}_encoder", x))
      if tower.projection is not None:
        z = net(f"{tower.tag}_projection", z)
      net.record(tower.tag, z)
      net.record("z", z)
