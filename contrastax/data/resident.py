"""A source whose examples all lie on the device."""

from __future__ import annotations

import contextlib
import functools
import math
import operator
import zlib
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from contrastax.core import Array, Batch, UserError, check_seed
from contrastax.pairwise.inputs import check_kept
from contrastax.views.images import check_range, check_type


class Resident:
  """Batches of arrays that lie on the device: shuffled each epoch, augmented in the step.

  Batch t is a pure function of (seed, t). Epoch t // (size // batch_size) has its own permutation,
  and examples that do not fill a batch at its end are left out of that epoch. Images stay uint8.

  Args:
    arrays: by name, each with an example in each row: booleans, integers or floating point. An
      array called `image` with four axes is images, uint8 or float in [0, 1]. 64-bit arrays become
      32-bit ones unless `jax_enable_x64` is set.
    batch_size: examples in a batch, 1 to the number of examples.
    seed: 0 to 2³² − 1.
    sharding: how a batch is laid out on several devices, `training.sharded(mesh)`; all examples lie
      on each of them. A mesh of explicit axes is taken as one of automatic axes.

  Raises:
    UserError: arrays, a batch size or a seed that are not so; integers that do not fit 32 bits.
  """

  def __init__(
    self,
    arrays: Mapping[str, Array | np.ndarray],
    *,
    batch_size: int,
    seed: int = 0,
    sharding: NamedSharding | None = None,
  ):
    self.size = _check_arrays(arrays)
    if not (isinstance(batch_size, int | np.integer) and 0 < batch_size <= self.size):
      raise UserError(
        f"batch_size must be between 1 and the data's {self.size}, not {batch_size!r}"
      )
    self.batch_size, self.seed, self._given = int(batch_size), check_seed(seed), dict(arrays)
    everywhere, self._mesh = None, contextlib.nullcontext
    if sharding is not None:
      sharding = _automatic(sharding)
      parts = _parts(sharding)
      if batch_size % parts:
        raise UserError(
          f"batch_size {batch_size} is not divisible by the {parts} devices; "
          f"{batch_size - batch_size % parts or parts} is"
        )
      everywhere = NamedSharding(sharding.mesh, PartitionSpec())
      # Not a mesh that the caller gave jax.set_mesh, whose axes may be explicit.
      self._mesh = functools.partial(jax.set_mesh, sharding.mesh)
    self._arrays = jax.device_put(dict(arrays), everywhere)
    self._take = jax.jit(_take, out_shardings=sharding)
    self._epoch = functools.lru_cache(maxsize=2)(self._permutation)

  @functools.cached_property
  def fingerprint(self) -> int:
    """A checksum of all arrays, as bytes, with their names, types and shapes."""
    found = 0
    for name, values in sorted(self._given.items()):
      values = np.ascontiguousarray(values)
      found = zlib.crc32(f"{name} {values.dtype} {values.shape}".encode(), found)
      found = zlib.crc32(values.reshape(-1).view(np.uint8), found)
    return found

  def batch(self, step: int) -> Batch:
    """The batch of a step, 0 or more: a Python integer, or an array with one, such as `state.step`.

    Raises UserError for any other step.
    """
    try:
      number = operator.index(step)
    except TypeError:
      number = -1
    if number < 0:
      raise UserError(f"batch takes a step, an integer of 0 or more, not {step!r}")
    epoch, place = divmod(number, self.size // self.batch_size)
    start = place * self.batch_size
    with self._mesh():
      return self._take(self._arrays, self._epoch(epoch)[start : start + self.batch_size])

  def _permutation(self, epoch):
    return np.random.default_rng((self.seed, epoch)).permutation(self.size).astype(np.int32)


def _take(arrays, index):
  picked = jax.tree.map(lambda values: jnp.take(values, index, axis=0), arrays)
  return {**picked, "index": index}


def _check_arrays(arrays):
  """The number of examples; raises UserError where there is no such number, or no such data."""
  if not (isinstance(arrays, Mapping) and arrays):
    kind = "none" if isinstance(arrays, Mapping) else type(arrays).__name__
    raise UserError(f"a data set is arrays by name, such as {{'image': images}}; found {kind}")
  if "index" in arrays:
    raise UserError("the source gives each example its index; no array may be called 'index'")
  for name, values in arrays.items():
    _check_values(name, values)
  sizes = {name: len(values) for name, values in arrays.items()}
  if len(set(sizes.values())) > 1:
    raise UserError(f"arrays of one data set have one length, not {sizes}")
  size = next(iter(sizes.values()))
  if not size:
    raise UserError(f"a data set has 1 example or more; found 0 in {', '.join(sizes)}")
  return size


def _check_values(name, values):
  if not isinstance(values, np.ndarray | jax.Array):
    raise UserError(f"array {name!r} is {type(values).__name__}; pass np.asarray(…)")
  dtype = values.dtype
  real = jnp.issubdtype(dtype, jnp.integer) or jnp.issubdtype(dtype, jnp.floating)
  if not (real or dtype == jnp.bool_):
    number = "; number its values by np.unique(…, return_inverse=True)[1]"
    fix = number if dtype.kind in "OSTU" else ""
    raise UserError(f"array {name!r} must be real numbers or booleans; found {dtype}{fix}")
  if not values.ndim:
    raise UserError(f"array {name!r} has no axis of examples; found shape []")
  if name == "image" and values.ndim == 4:
    check_type("array 'image'", values)
    check_range("array 'image'", values)
  if isinstance(values, np.ndarray):
    check_kept(f"array {name!r}", values)


def _automatic(sharding):
  """The same layout on a mesh of automatic axes; `jax.make_mesh` makes explicit ones."""
  if not isinstance(sharding, NamedSharding):
    raise UserError(f"sharding must be training.sharded(mesh), not {type(sharding).__name__}")
  return NamedSharding(Mesh(sharding.mesh.devices, sharding.mesh.axis_names), sharding.spec)


def _parts(sharding):
  """Into how many parts the first axis is divided."""
  axes = sharding.spec[0] if len(sharding.spec) else ()
  axes = axes if isinstance(axes, tuple) else (axes,)
  return math.prod(sharding.mesh.shape[axis] for axis in axes if axis is not None)
