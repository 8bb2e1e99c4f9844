"""Barlow Twins and a contrast of the same projections, by one more term."""

from parts import digits

from contrastax import data, encoders, methods, temperatures, views
from contrastax.terms import Contrast

method = methods.BarlowTwins(
  encoder=encoders.mlp((64,)),
  projection=encoders.projection((32,), 16),
  views=views.affine_jitter(),
  terms=(Contrast(anchors="projection", temperature=temperatures.fixed(0.2), weight=0.1),),
)


def source(**how):
  return data.Resident(digits, batch_size=64, **how)
