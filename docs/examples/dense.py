"""Dense contrast: patches of two crops are positives where they show the same place.

As in PixPro (Xie et al. 2021, arXiv 2011.10043, §3.1), with the whole image's contrast beside it.
"""

import dataclasses

import jax
import jax.numpy as jnp
from parts import digits, patch_encoder

from contrastax import data, encoders, methods, temperatures, views
from contrastax.core import Pairs, View, per_example
from contrastax.relations import Relation
from contrastax.terms import Contrast
from contrastax.views.crop import BOX_NUMBERS


@dataclasses.dataclass(frozen=True)
class crop:
  """A random crop; its side `box` [n, 4] is top, left, height and width as shares of the image."""

  def __call__(self, key, images, index):
    images = views.to_float(images)
    h, w = images.shape[1:3]
    draw = jax.vmap(lambda key: jax.random.uniform(key, (BOX_NUMBERS,)))(per_example(key, index))
    box = views.sample_box(draw, (h, w), area=(0.4, 1.0), ratio=(3 / 4, 4 / 3))
    shares = [box["top"] / h, box["left"] / w, box["height"] / h, box["width"] / w]
    return View(views.resized_crop(images, **box, size=h), {"box": jnp.stack(shares, -1)})


@dataclasses.dataclass(frozen=True)
class same_place(Relation):
  """Positive: a patch of the other view whose center is near. Negative: other images' patches."""

  side: int  # patches in a row, and rows
  within: float = 0.15

  def _center(self, vector):
    row, column = vector["place"] // self.side, vector["place"] % self.side
    top, left, height, width = (vector["box"][..., i] for i in range(4))
    return top + (row + 0.5) / self.side * height, left + (column + 0.5) / self.side * width

  def __call__(self, a, c, similarity):
    (y, x), (other_y, other_x) = self._center(a), self._center(c)
    near = (y - other_y) ** 2 + (x - other_x) ** 2 <= self.within**2
    same = a["index"] == c["index"]
    return Pairs(same & (a["view"] != c["view"]) & near, ~same)


method = methods.Siamese(
  encoder=patch_encoder(),
  projection=encoders.per_token(encoders.projection((32,), 16)),
  reads="tokens",
  views=crop(),
  terms=(
    Contrast(
      sides=("box",), relation=same_place(4), temperature=temperatures.fixed(0.2),
      average="with positives", tag="dense",
    ),
    Contrast(
      anchors="encoder.embedding", temperature=temperatures.fixed(0.2), weight=0.5, tag="whole"
    ),
  ),
)  # fmt: skip


def source(**how):
  return data.Resident(digits, batch_size=32, **how)
