"""Meshes, and the layout of batches and states on them.

A mesh has an axis `data`, along which the batch is divided. Other axes are allowed, and arrays are
replicated along them.
"""

from __future__ import annotations

import glob
import shutil
from collections.abc import Sequence
from typing import Any

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from contrastax.core import UserError
from contrastax.tables import Table


def make_mesh(devices: Sequence[Any] | None = None) -> Mesh:
  """Returns a mesh with one axis, `data`.

  Args:
    devices: the devices. None means all devices.

  Returns:
    The mesh.

  Example:
    >>> from contrastax import training
    >>> training.make_mesh().axis_names
    ('data',)
  """
  devices = jax.devices() if devices is None else devices
  return jax.make_mesh((len(devices),), ("data",), axis_types=(AxisType.Auto,), devices=devices)


def automatic(mesh: Any) -> Mesh:
  """Returns the same mesh with automatic axes.

  `jax.make_mesh` makes explicit axes by default. With explicit axes, every operation of a loss or
  an encoder would have to specify the layout of its result.

  Raises:
    UserError: `mesh` is not a mesh, or has no axis `data`.
  """
  if not isinstance(mesh, Mesh):
    raise UserError(
      f"mesh must be a jax.sharding.Mesh, such as training.make_mesh(), not {type(mesh).__name__}"
    )
  if "data" not in mesh.axis_names:
    raise UserError(
      f"the mesh must have an axis 'data' for the batch, such as training.make_mesh(), but has "
      f"{mesh.axis_names}"
    )
  return Mesh(mesh.devices, mesh.axis_names)


def replicated(mesh: Mesh) -> NamedSharding:
  """Returns the layout with the whole array on each device.

  Raises:
    UserError: `mesh` is not a mesh with an axis `data`.
  """
  return NamedSharding(automatic(mesh), PartitionSpec())


def sharded(mesh: Mesh) -> NamedSharding:
  """Returns the layout of a batch: the leading axis is divided along `data`.

  Raises:
    UserError: `mesh` is not a mesh with an axis `data`.

  Example:
    >>> from contrastax import training
    >>> training.sharded(training.make_mesh()).spec
    P('data',)
  """
  return NamedSharding(automatic(mesh), PartitionSpec("data"))


def state_sharding(tree: Any, mesh: Mesh) -> Any:
  """Returns the layout of each leaf of a run's state.

  Tables are divided along `data` if the number of devices divides their rows. All other arrays are
  replicated.
  """
  whole, rows = replicated(mesh), sharded(mesh)
  parts = mesh.shape["data"]

  def place(node):
    divided = isinstance(node, Table) and parts > 1 and len(node.values) % parts == 0
    return jax.tree.map(lambda _: rows if divided else whole, node)

  return jax.tree.map(place, tree, is_leaf=lambda node: isinstance(node, Table))


def block_on_virtual_devices(tree: Any, mesh: Mesh) -> Any:
  """Waits until the arrays are computed, if there are several CPU devices.

  Virtual CPU devices (`--xla_force_host_platform_device_count`) share a pool of threads. If two
  programs with collectives run at the same time, each can hold threads that the other one needs,
  which is a deadlock. So on such devices a program must end before the next one starts. A training
  loop of your own should apply this function to each batch and to the result of each step.

  Args:
    tree: any tree of arrays.
    mesh: the mesh of the run.

  Returns:
    `tree`. On other devices, or on a single CPU device, it is returned immediately.
  """
  virtual = mesh.size > 1 and mesh.devices.flat[0].platform == "cpu"
  return jax.block_until_ready(tree) if virtual else tree


def describe(mesh: Mesh) -> str:
  """Returns the number and kind of the devices, such as `8 × TPU v4 (tpu)`."""
  first = mesh.devices.flat[0]
  return f"{mesh.size} × {first.device_kind} ({first.platform})"


def idle_gpu() -> bool:
  """Returns whether an NVIDIA GPU is present while JAX runs on the CPU."""
  present = glob.glob("/dev/nvidia[0-9]*") or shutil.which("nvidia-smi")
  return bool(present) and jax.default_backend() == "cpu"
