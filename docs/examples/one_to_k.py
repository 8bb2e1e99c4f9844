"""One anchor, K positives: each image has K = 3 others of its class as positives."""

import numpy as np
from parts import digits

from contrastax import data, encoders, methods, temperatures, views

method = methods.Pairs(
  encoder=encoders.mlp((64,)),
  projection=encoders.projection((32,), 16),
  inputs=("image", "other_image"),
  positives=3,
  views=views.affine_jitter(),
  other_views=views.affine_jitter(),
  temperature=temperatures.fixed(0.2),
)


def source(**how):
  label = digits["label"]
  draw = np.random.default_rng(0)
  others = [draw.choice(np.flatnonzero(label == own), 3, replace=False) for own in label]
  related = {"other": data.Related(np.array(others, np.int32), fields=("image",))}
  return data.Resident(digits, batch_size=64, related=related, **how)
