"""The mesh: an axis `data`, along which the batch is divided.

Further axes are allowed; what is divided along `data` is repeated along them.
"""

from __future__ import annotations

import glob
import shutil

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from contrastax.core import UserError
from contrastax.tables import Table


def make_mesh(devices=None) -> Mesh:
  """All devices (or those given) along one axis, `data`."""
  devices = jax.devices() if devices is None else devices
  return jax.make_mesh((len(devices),), ("data",), axis_types=(AxisType.Auto,), devices=devices)


def automatic(mesh: Mesh) -> Mesh:
  """The same mesh with axes of type Auto, whatever they were.

  `jax.make_mesh` makes Explicit axes by default. With these JAX would ask every operation of the
  losses and encoders for the layout of its result.

  Raises:
    UserError: `mesh` is no mesh, or has no axis `data`.
  """
  if not isinstance(mesh, Mesh):
    raise UserError(
      f"mesh must be a jax.sharding.Mesh, not {type(mesh).__name__}; training.make_mesh() is one"
    )
  if "data" not in mesh.axis_names:
    raise UserError(
      f"the mesh has no axis 'data', along which the batch is divided, but {mesh.axis_names}; "
      "training.make_mesh() has it"
    )
  return Mesh(mesh.devices, mesh.axis_names)


def replicated(mesh: Mesh) -> NamedSharding:
  """Every array whole on each device."""
  return NamedSharding(automatic(mesh), PartitionSpec())


def sharded(mesh: Mesh) -> NamedSharding:
  """The leading axis, the global batch, divided along `data`."""
  return NamedSharding(automatic(mesh), PartitionSpec("data"))


def state_sharding(tree, mesh: Mesh):
  """A sharding of each leaf of a run's state: tables of examples are divided along `data`, if that
  divides their rows evenly, and the rest is on every device."""
  whole, rows = replicated(mesh), sharded(mesh)
  parts = mesh.shape["data"]

  def place(node):
    divided = isinstance(node, Table) and parts > 1 and len(node.values) % parts == 0
    return jax.tree.map(lambda _: rows if divided else whole, node)

  return jax.tree.map(place, tree, is_leaf=lambda node: isinstance(node, Table))


def block_on_virtual_devices(tree, mesh: Mesh):
  """The tree; on several CPU devices once it is computed, elsewhere at once, so that no step waits.

  Virtual CPU devices (`--xla_force_host_platform_device_count`) share a pool of threads. Of two programs
  with collectives that are in flight together each can hold threads that the other waits for,
  forever (seen on a busy machine), so there one ends before the next begins. A user's own loop
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
