"""The mesh: one axis, `data`, over all devices."""

from __future__ import annotations

import glob
import shutil

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from contrastax.tables import Table


def make_mesh(devices=None) -> Mesh:
  """All devices (or those given) along one axis, `data`."""
  devices = jax.devices() if devices is None else devices
  return jax.make_mesh((len(devices),), ("data",), axis_types=(AxisType.Auto,), devices=devices)


def replicated(mesh: Mesh) -> NamedSharding:
  return NamedSharding(mesh, PartitionSpec())


def sharded(mesh: Mesh) -> NamedSharding:
  """The leading axis, the global batch, divided among the devices."""
  return NamedSharding(mesh, PartitionSpec("data"))


def layout(tree, mesh: Mesh):
  """A sharding of each leaf of a run's state: tables of examples are divided, if the devices divide
  their rows, and the rest is on every device."""

  def place(node):
    divided = isinstance(node, Table) and mesh.size > 1 and len(node.values) % mesh.size == 0
    return jax.tree.map(lambda _: sharded(mesh) if divided else replicated(mesh), node)

  return jax.tree.map(place, tree, is_leaf=lambda node: isinstance(node, Table))


def settled(tree, mesh: Mesh):
  """The tree; on several CPU devices once it is computed, elsewhere at once, so that no step waits.

  Virtual CPU devices (`--xla_force_host_platform_device_count`) share a pool of threads. Of two programs
  with collectives that are in flight together each can hold threads that the other waits for,
  forever (seen on a busy machine), so there one ends before the next begins. A loop of one's own
  on such devices calls this of its batch and of its step.
  """
  virtual = mesh.size > 1 and mesh.devices.flat[0].platform == "cpu"
  return jax.block_until_ready(tree) if virtual else tree


def describe(mesh: Mesh) -> str:
  """`8 × TPU v4 (tpu)`: how many devices of which kind."""
  first = mesh.devices.flat[0]
  return f"{mesh.size} × {first.device_kind} ({first.platform})"


def idle_gpu() -> bool:
  """Whether an NVIDIA GPU is present while JAX runs on the CPU."""
  present = glob.glob("/dev/nvidia[0-9]*") or shutil.which("nvidia-smi")
  return bool(present) and jax.default_backend() == "cpu"
