"""CLIP with terms that align the pairs and spread each modality over the sphere.

The left and the right half of a digit stand for two modalities. As in CUAXU (Eslami & de Melo 2024,
arXiv 2406.17639), which narrows the gap between modalities.
"""

from parts import digits

from contrastax import data, encoders, losses, methods, temperatures
from contrastax.relations import other_view, same_example
from contrastax.terms import Apply, Contrast

tower = {"encoder": encoders.mlp((64,)), "projection": encoders.projection((32,), 16)}
method = methods.Towers(
  towers=(
    methods.Tower(tag="left", input="left", **tower),
    methods.Tower(tag="right", input="right", **tower),
  ),
  terms=(
    Contrast(
      anchors="z", relation=same_example() & other_view(), temperature=temperatures.learned(0.1)
    ),
    Apply(loss=losses.uniformity, of=("left", "right"), how="each", weight=0.5, tag="uniformity"),
    Apply(loss=losses.alignment, of=("left", "right"), weight=0.5, tag="alignment"),
  ),
)


def source(**how):
  halves = {"left": digits["image"][:, :, :4], "right": digits["image"][:, :, 4:]}
  return data.Resident(halves, batch_size=64, **how)
