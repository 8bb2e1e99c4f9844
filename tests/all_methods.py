"""Every method, as the tests train it: on digits, with BatchNorm, and queue and EMA where it has them.

A new method joins the tests of learning, of resuming and of the device contract by its line here.
"""

import jax

from contrastax import criteria, encoders, methods, negatives, schedules, temperatures, views
from contrastax.views.images import as_input

PLAIN = views.affine_jitter()


def noise(key, images, index):
  """A view by noise alone. A step compiles in half the time that it takes with `PLAIN`."""
  images = as_input(images)
  return images + 0.2 * jax.random.normal(key, images.shape, images.dtype)


LONG = ("MoCo, ShuffleBN, in-batch",)  # a ResNet: of these only `-m full` tests everything


def parts(wide=lambda encoder: encoder, plan=None, view=noise):
  """{name: method}; `wide` is applied to every network, `view` to every input but SimCLR's."""
  head = wide(encoders.projection((64,), 32))
  common = {"encoder": wide(encoders.mlp((128, 64))), "projection": head, "views": view}
  paired = {**common, "temperature": temperatures.fixed(0.2)}
  if plan:
    paired["plan"] = plan
  predictor = {"predictor": wide(encoders.projection((32,), 32))}
  queue = negatives.queue(512)
  two_halves = {
    **common,
    "inputs": ("image", "right"),
    "other_encoder": wide(encoders.mlp((128, 64))),
    "other_projection": wide(encoders.projection((64,), 32)),
    "other_views": view,
  }
  return {
    "SimCLR": methods.SimCLR(**{**paired, "views": PLAIN}),
    "SimCLR, queue, DCL, learned": methods.SimCLR(
      **{**paired, "temperature": temperatures.learned(0.2)},
      negatives=negatives.in_batch() + queue,
      loss=criteria.dcl(),
    ),
    "SimCLR, iSogCLR": methods.SimCLR(
      **{**paired, "temperature": temperatures.individual(0.2)},
      loss=criteria.sogclr(0.9),
      examples=1297,
    ),
    "MoCo": methods.MoCo(**paired, momentum=0.99, negatives=queue),
    "MoCo, ShuffleBN, in-batch": methods.MoCo(
      **{**paired, "encoder": wide(encoders.resnet(8, width=4, bn_groups=4))},
      momentum=0.9,
      negatives=negatives.in_batch() + queue,
    ),
    "MoCoV3": methods.MoCoV3(
      **{**paired, "temperature": temperatures.scheduled(schedules.cosine(start=0.5, end=0.1, steps=100))},
      **predictor,
      momentum=schedules.cosine(start=0.9, end=1.0, steps=100),
    ),
    "SupCon": methods.SupCon(**paired),
    "NNCLR": methods.NNCLR(**paired, **predictor, support=512),
    "IMix": methods.IMix(**paired, negatives=negatives.in_batch() + queue),
    "Multiview": methods.Multiview(**{**paired, "views": (view,) * 3}),
    "BYOL": methods.BYOL(**common, **predictor, momentum=0.99),
    "SimSiam": methods.SimSiam(
      **{**common, "projection": wide(encoders.projection((64,), 32, norm_out=True))},
      predictor=wide(encoders.projection((16,), 32)),
    ),
    "BarlowTwins": methods.BarlowTwins(**common),
    "VICReg": methods.VICReg(**common),
    "WMSE": methods.WMSE(**{**common, "projection": wide(encoders.projection((64,), 16))}, draws=2),
    "SwAV": methods.SwAV(
      **common, prototypes=wide(encoders.prototypes(60)), queue_size=256, frozen_steps=2
    ),
    "DINO": methods.DINO(
      **common,
      prototypes=wide(encoders.prototypes(128)),
      momentum=0.99,
      teacher_temperature=schedules.linear(start=0.04, end=0.07, steps=100),
      frozen_steps=1,
    ),
    "CLIP": methods.CLIP(**two_halves),
    "CLIP, iSogCLR": methods.CLIP(
      **two_halves,
      temperature=temperatures.individual(0.2),
      loss=criteria.sogclr(0.9),
      examples=1297,
    ),
  }  # fmt: skip


def seen_by(name, arrays):
  """The arrays that the method trains on: CLIP gets the left and the right half of each image."""
  if not name.startswith("CLIP"):
    return arrays
  left, right = arrays["image"][:, :, :4], arrays["image"][:, :, 4:]
  return {**arrays, "image": left, "right": right}


def widened(to):
  """A function for `parts` that makes every array of a network of type `to`."""

  def wide(encoder):
    def init(key, x):
      return jax.tree.map(lambda leaf: leaf.astype(to), encoder.init(key, x))

    return encoder._replace(init=init)

  return wide
