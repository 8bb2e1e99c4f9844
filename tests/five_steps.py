"""Five steps of every method and of its main combinations, in float64 on fixed data.

  JAX_ENABLE_X64=1 python tests/five_steps.py record             writes five_steps.npz
  JAX_ENABLE_X64=1 python tests/five_steps.py compare            prints {case: {array: difference}}

five_steps.npz was recorded at commit d436160, before networks and objectives became terms. Per case
it holds the metrics of each step and all parameters and state after the last.
"""

import functools
import json
import pathlib
import sys

import all_methods
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from contrastax import (
  criteria,
  data,
  encoders,
  losses,
  methods,
  negatives,
  temperatures,
  training,
  views,
)
from contrastax.core import Encoder
from contrastax.pairwise.scores import adaptive_heads, bilinear
from contrastax.relations import same_example, similarity_within

RECORD = pathlib.Path(__file__).with_name("five_steps.npz")
EXAMPLES, BATCH, STEPS = 48, 16, 5
PLAIN = views.affine_jitter()
MISSING = np.full(0, np.nan)


def fixed(encoder):
  """The encoder in float64, with matrices of NumPy: JAX draws in float32, which rounds differently
  on other machines."""

  def matrix(leaf):
    if leaf.ndim < 2:
      return leaf.astype(jnp.float64)
    draw = np.random.default_rng(leaf.shape).normal(size=leaf.shape)
    return jnp.asarray(draw / leaf.shape[0] ** 0.5)

  def init(key, x):
    params, state = encoder.init(key, x)
    return jax.tree.map(matrix, params), jax.tree.map(lambda s: s.astype(jnp.float64), state)

  return encoder._replace(init=init)


def small_view(key, images, index):
  """A view of another size: every second row and column."""
  return PLAIN(key, images, index)[:, ::2, ::2]


class Dropped(nnx.Module):
  def __init__(self, x, rngs):
    self.linear = nnx.Linear(x.size, 12, rngs=rngs)
    self.dropout = nnx.Dropout(0.3, rngs=rngs)

  def __call__(self, x):
    return self.dropout(jnp.tanh(self.linear(x.reshape(len(x), -1) / 16)))


def cases(wide=fixed):
  """{name: method}, of small networks; `wide` is applied to each of them."""
  head = wide(encoders.projection((8,), 6))
  common = {"encoder": wide(encoders.mlp((12,))), "projection": head, "views": PLAIN}
  paired = {**common, "temperature": temperatures.fixed(0.2)}
  predictor = {"predictor": wide(encoders.projection((8,), 6))}
  queue, both = negatives.queue(64), negatives.in_batch() + negatives.queue(32)
  own = {"temperature": temperatures.individual(0.2), "loss": criteria.sogclr(0.9)}
  of_two = {
    **common,
    "inputs": ("image", "right"),
    "other_encoder": wide(encoders.mlp((12,))),
    "other_projection": head,
    "other_views": PLAIN,
  }
  learned = {"temperature": temperatures.learned(0.2)}
  hard = criteria.hard_negative(beta=0.5, tau_plus=0.1)
  several = {**common, "views": (PLAIN, PLAIN, small_view), "encoder": wide(pooled())}
  found = {
    "SimCLR": methods.SimCLR(**paired),
    "SimCLR, four views": methods.SimCLR(**{**paired, "views": (PLAIN,) * 4}),
    "SimCLR, queue, DCL, learned": methods.SimCLR(
      **{**paired, **learned}, negatives=both, loss=criteria.dcl()
    ),
    "SimCLR, iSogCLR": methods.SimCLR(**{**paired, **own}, examples=EXAMPLES),
    "SimCLR, filters": methods.SimCLR(
      **paired,
      negatives=both + negatives.hardest_only(8),
      relation=same_example() & similarity_within(most=0.9),
      loss=hard,
    ),
    "SimCLR, adaptive_heads": methods.SimCLR(
      **common, temperature=temperatures.fixed(1.0), score=adaptive_heads(heads=2, hidden=4)
    ),
    "SimCLR, bilinear": methods.SimCLR(**paired, score=bilinear()),
    "SimCLR, dropout": methods.SimCLR(**{**paired, "encoder": wide(dropped())}),
    "MoCo": methods.MoCo(**paired, momentum=0.9, negatives=queue),
    "MoCo, MoCHi": methods.MoCo(
      **paired,
      momentum=0.9,
      negatives=queue + negatives.mochi(hard=8, mixed=4, with_anchor=2, warmup=1),
    ),
    "MoCo, learned, in-batch": methods.MoCo(
      **{**paired, **learned}, momentum=0.9, negatives=both, loss=criteria.dclw()
    ),
    "MoCoV3": methods.MoCoV3(**paired, **predictor, momentum=0.9),
    "SupCon": methods.SupCon(**paired),
    "SupCon, in": methods.SupCon(**paired, loss=criteria.sup_con_in()),
    "NNCLR": methods.NNCLR(**paired, **predictor, support=32),
    "IMix": methods.IMix(**paired, negatives=both),
    "Multiview": methods.Multiview(**{**paired, **learned, "views": (PLAIN,) * 3}),
    "Multiview, poly_view": methods.Multiview(
      **{**paired, "views": (PLAIN,) * 3}, loss=losses.poly_view
    ),
    "BYOL": methods.BYOL(**common, **predictor, momentum=0.9),
    "SimSiam": methods.SimSiam(**common, **predictor),
    "BarlowTwins": methods.BarlowTwins(**common),
    "VICReg": methods.VICReg(**common),
    "WMSE": methods.WMSE(**{**common, "projection": wide(encoders.projection((8,), 4))}, draws=2),
    "SwAV": methods.SwAV(
      **several, prototypes=wide(encoders.prototypes(7)), queue_size=32, frozen_steps=2
    ),
    "DINO": methods.DINO(
      **several, prototypes=wide(encoders.prototypes(9)), momentum=0.9, frozen_steps=1
    ),
    "CLIP": methods.CLIP(**of_two),
    "CLIP, siglip": methods.CLIP(
      **of_two, temperature=temperatures.learned(0.1, bias=-3.0), loss=criteria.siglip()
    ),
    "CLIP, iSogCLR": methods.CLIP(**of_two, **own, examples=EXAMPLES),
  }  # fmt: skip
  return found


def pooled():
  """An encoder of images of any size: their mean over rows and columns, through an MLP."""
  inner = encoders.mlp((12,))

  def mean(x):
    return jnp.concatenate([x.mean((1, 2)), x.std((1, 2)), x.max((1, 2)), x[:, :4, 0, 0]], 1)

  def apply(params, state, x, **how):
    return inner.apply(params, state, mean(x)[:, None, :, None], **how)

  return Encoder(lambda key, x: inner.init(key, mean(x)[:, None, :, None]), apply)


def dropped():
  return encoders.from_nnx(Dropped)


def source_of(name):
  digits = {key: values[:EXAMPLES] for key, values in data.load("digits").train.items()}
  digits["image"] = digits["image"] / 255.0  # float64, and so are the views
  return data.Resident(all_methods.seen_by(name, digits), batch_size=BATCH)


def run(name):
  """{path: array}: the metrics of each step, parameters and state after the last, and `drawn`, the
  mean and the mean square of each parameter as JAX draws it."""
  method, source = cases()[name], source_of(name)
  optimizer, mesh = optax.sgd(0.05, 0.9), training.make_mesh(jax.devices()[:1])
  state = training.init(method, optimizer, source.batch(0), mesh=mesh)
  step = training.make_train_step(method, optimizer, mesh)
  found = {}
  for t in range(STEPS):
    state, metrics = step(state, source.batch(t))
    for metric, value in metrics.items():
      found.setdefault(f"metrics/{metric}", []).append(float(value))
  found = {path: np.array(values) for path, values in found.items()}
  found |= {**flat("params", state.params), **flat("state", state.state)}
  as_drawn = cases(all_methods.widened(jnp.float64))[name]
  params, _ = jax.jit(as_drawn.init)(jax.random.key(0), source.batch(0))
  for path, values in flat("drawn", params).items():
    found[path] = np.array([values.mean(), (values**2).mean()])
  return found


def flat(kind, tree):
  leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
  name = functools.partial(jax.tree_util.keystr, simple=True, separator="/")
  return {f"{kind}/{name(path)}": np.asarray(leaf) for path, leaf in leaves}


def apart(one, other):
  """The largest difference relative to the array's largest entry, at least 1."""
  one, other = np.float64(one), np.float64(other)
  if one.shape != other.shape:
    return float("inf")
  return float(np.abs(one - other).max(initial=0) / max(1, np.abs(one).max(initial=0)))


def moved(path):
  """Where an entry of a contrast is now: in that of the term `contrast`."""
  kind, _, rest = path.partition("/")
  return f"{kind}/terms/contrast/{rest}"


def recorded_name(name):
  """The name of a case in the record, which was written when `CLIP` had the name `Clip`."""
  return name.replace("CLIP", "Clip")


def compare():
  recorded = np.load(RECORD)
  found = {}
  for name in cases():
    now, old = run(name), recorded_name(name)
    before = [path.partition("|")[2] for path in recorded.files if path.startswith(f"{old}|")]
    found[name] = {
      path: apart(recorded[f"{old}|{path}"], now.get(path, now.get(moved(path), MISSING)))
      for path in before
    }
  print(json.dumps(found))


def record():
  arrays = {
    f"{recorded_name(name)}|{path}": values
    for name in cases()
    for path, values in run(name).items()
  }
  np.savez_compressed(RECORD, **arrays)


if __name__ == "__main__":
  {"record": record, "compare": compare}[sys.argv[1]]()
