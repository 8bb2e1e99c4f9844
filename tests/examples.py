"""The examples of docs/examples, as tests train them."""

import dataclasses
import importlib
import pathlib
import sys

import all_methods
import jax.numpy as jnp

from contrastax.core import Encoder
from contrastax.pairwise import Plan

FOLDER = pathlib.Path(__file__).parents[1] / "docs" / "examples"
NAMES = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "parts")
QUICK = (
  "dense",
  "symile_missing",
  "taco",
)  # others are stopped, and compared on devices, under `-m full`
LATE = {"own_criterion": 6}  # steps until a queue is full, while the loss rises


def module(name):
  if str(FOLDER) not in sys.path:
    sys.path.insert(0, str(FOLDER))
  return importlib.import_module(name)


def on_mesh(part, mesh, wide=all_methods.widened(jnp.float64)):
  """A method, or another part, in float64, whose pairs are evaluated on a mesh."""
  if isinstance(part, Encoder):
    return wide(part)
  if isinstance(part, Plan):
    return Plan(mesh=mesh)
  if isinstance(part, tuple):
    return tuple(on_mesh(each, mesh, wide) for each in part)
  if not dataclasses.is_dataclass(part):
    return part
  fields = {f.name: getattr(part, f.name) for f in dataclasses.fields(part) if f.init}
  changed = {name: on_mesh(value, mesh, wide) for name, value in fields.items()}
  changed = {name: value for name, value in changed.items() if value is not fields[name]}
  return dataclasses.replace(part, **changed) if changed else part
