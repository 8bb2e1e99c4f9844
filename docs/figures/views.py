"""Draws docs/figures/views.png: what each recipe makes of two images, with the same crops.

python docs/figures/views.py
"""

import io
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from PIL import Image
from sklearn.datasets import load_digits, load_sample_images

from contrastax import views
from contrastax.core import named

HERE = pathlib.Path(__file__).parent
SIZE, SMALL, COLUMNS = 64, 28, 6
KEY = jax.random.key(26)  # one in which every operation is seen


def photographs():
  """scikit-learn's two, each cut to a square and made smaller: uint8 [2, 128, 128, 3]."""
  small = [Image.fromarray(x[:, 100:527]).resize((128, 128)) for x in load_sample_images().images]
  return np.stack([np.asarray(x) for x in small])


def digits():
  """Two of scikit-learn's, float [2, 8, 8, 1]."""
  return (load_digits().images[[3, 8], :, :, None] / 16).astype(np.float32)


def row(recipes, images):
  """COLUMNS views, three of each image, of the recipes in turn."""
  index = jnp.arange(len(images))
  drawn = views.draw_views([jax.jit(recipe) for recipe in recipes], KEY, images, index)
  return [np.asarray(view[i]) for i in range(len(images)) for view in drawn]


def mixes(mix, images):
  """COLUMNS mixed images, three of each, with the weight of the image they are made from."""
  images = views.to_float(jnp.asarray(images))
  index = jnp.arange(2)
  drawn = [jax.jit(mix)(named(KEY, f"mix {i}"), images, index) for i in range(COLUMNS // 2)]
  places = [(found, i) for i in range(2) for found in drawn]
  return [found.images[i] for found, i in places], [
    f"λ = {found.weight[i]:.2f}" for found, i in places
  ]


def main():
  photos = photographs()
  byol, crops = views.byol(SIZE), views.multi_crop((SIZE, SMALL))
  rows = {
    f"simclr({SIZE})": (row((views.simclr(SIZE),) * 3, photos), None),
    f"simclr({SIZE},\nstrength=0.5, blur=0)": (
      row((views.simclr(SIZE, strength=0.5, blur=0.0),) * 3, photos),
      None,
    ),
    f"moco_v2({SIZE})": (row((views.moco_v2(SIZE),) * 3, photos), None),
    f"byol({SIZE}):\nfirst, second, second": (row((byol[0], byol[1], byol[1]), photos), None),
    f"multi_crop(({SIZE}, {SMALL})):\n2 large, 6 small": (
      row((crops[0], crops[2], crops[3]), photos),
      None,
    ),
    "mixup()": mixes(views.mixup(), photos),
    "cutmix()": mixes(views.cutmix(), photos),
    f"gray({SMALL}, flip=0)": (row((views.gray(SMALL, flip=0.0),) * 3, digits()), None),
    "affine_jitter()": (row((views.affine_jitter(),) * 3, digits()), None),
  }
  figure = Figure(figsize=(7.2, 8.6), dpi=80, layout="constrained")
  axes = figure.subplots(len(rows) + 1, COLUMNS)
  for axis in axes.flat:
    axis.set_axis_off()
  for i, image in enumerate(photos):
    show(axes[0, 3 * i], image, None)
  label(axes[0, 0], "images")
  for line, (name, (drawn, weights)) in zip(axes[1:], rows.items(), strict=True):
    label(line[0], name)
    for c, (axis, view) in enumerate(zip(line, drawn, strict=True)):
      show(axis, view, None if weights is None else weights[c])
  drawn = io.BytesIO()
  figure.savefig(drawn)
  # 256 colors: a third of the file, and no difference that one sees.
  Image.open(drawn).convert("RGB").quantize(256).save(HERE / "views.png", optimize=True)


def label(axis, text):
  axis.text(-0.15, 0.5, text, transform=axis.transAxes, ha="right", va="center", fontsize=8)


def show(axis, image, title):
  gray = {"cmap": "gray", "vmin": 0, "vmax": 1} if image.shape[-1] == 1 else {}
  clipped = image if image.dtype == np.uint8 else np.clip(image, 0, 1)
  axis.imshow(clipped.squeeze(), **gray, interpolation="nearest")
  if title:
    axis.set_title(title, fontsize=7, pad=1)


if __name__ == "__main__":
  main()
