"""Losses on meshes of host devices: how they are placed, evaluated and compared."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from contrastax.pairwise import Plan

DENSE, TILED, RING = "dense", (7, 6), (4, 3)  # none of the sizes divides 40, 20, 10 and 5


def mesh_of(devices, **others):
  """`devices` along `data`, and perhaps some along other axes."""
  shape = (devices, *others.values())
  return jax.make_mesh(
    shape, ("data", *others), axis_types=(AxisType.Auto,) * len(shape),
    devices=jax.devices()[: np.prod(shape)],
  )  # fmt: skip


def put(tree, mesh):
  """Every array divided among the devices if it can be, else on all of them."""

  def one(x):
    divided = np.ndim(x) > 0 and len(x) % mesh.shape["data"] == 0
    axes = PartitionSpec("data") if divided else PartitionSpec()
    if isinstance(x, jax.ShapeDtypeStruct):
      return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=NamedSharding(mesh, axes))
    return jax.device_put(x, NamedSharding(mesh, axes))

  return jax.tree.map(one, tree)


def apart(found, expected):
  """The largest difference, relative to each array's largest entry."""

  def relative(x, y):
    x, y = np.asarray(x, float), np.asarray(y, float)
    assert x.shape == y.shape and np.isfinite(y).all()
    return float(np.abs(x - y).max(initial=0) / max(1e-3, np.abs(y).max(initial=0)))

  return max(jax.tree.leaves(jax.tree.map(relative, found, expected)), default=0.0)


@functools.partial(jax.jit, static_argnums=(0, 1))
def evaluated(call, plan, arrays):
  """The value per anchor, and the gradient of a sum that weighs each differently, by all arrays."""

  def total(arrays):
    out = call(arrays, plan)
    value = out["value"] if isinstance(out, dict) else out
    return (jnp.cos(1.0 + jnp.arange(value.size)) * value.ravel()).sum(), out

  gradients, out = jax.grad(total, has_aux=True, allow_int=True)(arrays)
  return out, [g for g in jax.tree.leaves(gradients) if g.dtype != jax.dtypes.float0]


def evaluate(arrays, call, block, devices, mesh=True, **others):
  on = mesh_of(devices, **others)
  found = evaluated(call, Plan(block, on if mesh else None), put(arrays, on))
  return jax.tree.map(np.asarray, found)
