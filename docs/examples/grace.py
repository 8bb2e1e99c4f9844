"""GRACE (Zhu et al. 2020, arXiv 2006.04131): a graph loses edges and features in each view.

The graph joins every digit with its five nearest neighbors; a batch is the whole graph, in order.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from parts import digits

from contrastax import data, encoders, methods, temperatures
from contrastax.core import per_example


class GraphConvolution(nnx.Module):
  """y_i = relu(W x_i + V mean of the x_j of the neighbors j that are kept)."""

  def __init__(self, x, rngs):
    d = x["features"].shape[-1]
    self.own, self.other = nnx.Linear(d, 32, rngs=rngs), nnx.Linear(d, 32, rngs=rngs)

  def __call__(self, x):
    kept = x["kept"][..., None]
    mean = (x["features"][x["neighbors"]] * kept).sum(1) / jnp.maximum(kept.sum(1), 1)
    return jax.nn.relu(self.own(x["features"]) + self.other(mean))


@dataclasses.dataclass(frozen=True)
class drop:
  """Every edge and every feature is dropped with a probability."""

  share: float

  def __call__(self, key, x, index):
    edges, columns = jax.random.split(key)
    shape = x["neighbors"].shape[1:]
    draw = jax.vmap(lambda key: jax.random.uniform(key, shape))(per_example(edges, index))
    features = x["features"] * (jax.random.uniform(columns, x["features"].shape[1:]) > self.share)
    return {**x, "features": features, "kept": (draw > self.share).astype(features.dtype)}


method = methods.SimCLR(
  # Rows refer to rows of their own view, so views may not be concatenated.
  encoder=encoders.from_nnx(GraphConvolution, together=False),
  projection=encoders.projection((32,), 16),
  input=("features", "neighbors"),
  views=(drop(0.2), drop(0.4)),
  temperature=temperatures.fixed(0.2),
)


def source(**how):
  features = np.float32(digits["image"].reshape(len(digits["image"]), -1) / 255)
  distance = ((features[:, None] - features) ** 2).sum(-1)
  neighbors = np.argsort(distance, axis=1)[:, 1:6].astype(np.int32)
  fields = {"features": features, "neighbors": neighbors}
  return data.Resident(fields, order=data.in_order(len(features)), **how)
