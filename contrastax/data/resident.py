"""A source whose examples all lie on the device."""

from __future__ import annotations

import functools
import zlib
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from contrastax.core import Batch, UserError


class Resident:
  """Batches of arrays that lie on the device: shuffled each epoch, augmented in the step.

  Batch t is a pure function of (seed, t): epoch t // (size // batch_size) has its own
  permutation, and what does not fill a batch at its end waits for another epoch. Images
  stay uint8. With `sharding`, a batch is laid out by it and the data lie on each device.
  """

  def __init__(
    self,
    arrays: Mapping[str, np.ndarray],
    *,
    batch_size: int,
    seed: int = 0,
    sharding: jax.sharding.NamedSharding | None = None,
  ):
    sizes = {name: len(values) for name, values in arrays.items()}
    self.size = next(iter(sizes.values()))
    if len(set(sizes.values())) > 1:
      raise UserError(f"arrays of one data set have one length, not {sizes}")
    if "index" in sizes:
      raise UserError("the source gives each example its index; no array may be called 'index'")
    if not 0 < batch_size <= self.size:
      raise UserError(f"batch_size must be between 1 and the data's {self.size}, not {batch_size}")
    devices = 1 if sharding is None else sharding.num_devices
    if batch_size % devices:
      raise UserError(
        f"batch_size {batch_size} is not divisible by the {devices} devices; "
        f"{batch_size - batch_size % devices or devices} is"
      )
    self.batch_size, self.seed, self._given = batch_size, seed, dict(arrays)
    everywhere = None
    if sharding is not None:
      everywhere = jax.sharding.NamedSharding(sharding.mesh, jax.sharding.PartitionSpec())
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
    epoch, place = divmod(step, self.size // self.batch_size)
    start = place * self.batch_size
    return self._take(self._arrays, self._epoch(epoch)[start : start + self.batch_size])

  def _permutation(self, epoch):
    return np.random.default_rng((self.seed, epoch)).permutation(self.size).astype(np.int32)


def _take(arrays, index):
  picked = jax.tree.map(lambda values: jnp.take(values, index, axis=0), arrays)
  return {**picked, "index": index}
