"""The parameters of an exported encoder, in a safetensors file."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from contrastax.core import Params, State, UserError, named_leaves
from contrastax.files import write_bytes

FILE = "model.safetensors"
TIMM = "timm"
"""The layout of `encoders.to_torch`: the names of timm, and PyTorch's order of axes."""
TREE = "contrastax"
"""The layout in which an array has its path in the parameters or the state as its name."""


def layout_of(spec: Any) -> str:
  """Returns the layout in which an encoder is written.

  Args:
    spec: the encoder as specified in a config, or None.
  """
  while isinstance(spec, dict) and isinstance(spec.get("encoder"), dict):
    spec = spec["encoder"]  # such as that in `chunked` or `pretrained`
  return TIMM if isinstance(spec, dict) and spec.get("name") in ("resnet", "vit") else TREE


def normalization_of(spec: Any) -> Any:
  """Returns how an encoder normalizes images in [0, 1], as `encoders.pretrained` takes it.

  The result is None if a part of the user contains the network, because it may do anything.

  Args:
    spec: the encoder as specified in a config: a ResNet or a ViT, or a part that contains one.
  """
  normalization = "none"
  while isinstance(spec.get("encoder"), dict):
    if ":" in spec["name"]:
      return None
    normalization = spec.get("normalization", normalization)
    spec = spec["encoder"]
  # Without its file, which `contrastax.load` does not read, the encoder normalizes nothing.
  return "none" if normalization == "file" else normalization


def write_weights(
  folder: pathlib.Path, params: Params, state: State, layout: str, normalization: Any = None
) -> None:
  """Writes the parameters and the state of an encoder.

  Args:
    folder: the folder, which exists.
    params: the parameters.
    state: the state.
    layout: `TIMM` or `TREE`.
    normalization: how the encoder normalizes images, see `normalization_of`; the file states it. None
      means that it is not known.
  """
  from safetensors.numpy import save  # It is slow to import, as are the encoders.

  from contrastax.encoders.torch_layout import to_torch

  if layout == TIMM:
    arrays = to_torch(params, state)
  else:
    leaves = named_leaves({"params": params, "state": state})
    arrays = {name: np.ascontiguousarray(leaf) for name, leaf in leaves}
  metadata = {"layout": layout, "format": "pt"}
  if normalization is not None:
    metadata["normalization"] = json.dumps(normalization)
  write_bytes(folder / FILE, save(arrays, metadata))


def read_weights(
  folder: pathlib.Path, params: Params, state: State, layout: Any
) -> tuple[Params, State]:
  """Reads the parameters and the state that `write_weights` wrote.

  Args:
    folder: the folder.
    params: a tree with the structure, shapes and types of the parameters.
    state: a tree with the structure, shapes and types of the state.
    layout: `TIMM` or `TREE`.

  Raises:
    UserError: the file is missing or damaged, or is of another encoder.
  """
  from safetensors import SafetensorError
  from safetensors.numpy import load_file

  from contrastax.encoders.torch_layout import from_torch

  path = folder / FILE
  try:
    arrays = load_file(path)
  except FileNotFoundError:
    raise UserError(f"{folder} is an incomplete export: it has no {FILE}") from None
  except (SafetensorError, OSError) as error:
    fault = " ".join(str(error).split())
    raise UserError(f"{path} is not an intact safetensors file: {fault}; export it again") from None
  try:
    if layout == TIMM:
      return from_torch(arrays, params, state)
    return _filled(arrays, params, state)
  except UserError as error:
    raise UserError(f"{path}: {error}") from None


def _filled(arrays: dict[str, np.ndarray], params: Params, state: State) -> tuple[Params, State]:
  like = {"params": params, "state": state}
  expected = named_leaves(like)
  if unknown := sorted(arrays.keys() - {name for name, _ in expected}):
    raise UserError(f"{unknown[0]} is not a weight of the encoder")
  leaves = []
  for name, leaf in expected:
    array = arrays.get(name)
    if array is None or array.shape != leaf.shape or array.dtype != leaf.dtype:
      found = "missing" if array is None else f"{array.dtype} {list(array.shape)}"
      raise UserError(f"{name} is {found}, in the encoder {leaf.dtype} {list(leaf.shape)}")
    leaves.append(jnp.asarray(array))
  tree = jax.tree.unflatten(jax.tree.structure(like), leaves)
  return tree["params"], tree["state"]
