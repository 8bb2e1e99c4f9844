"""Weights of ResNets and Vision Transformers from torchvision and timm."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from contrastax.core import Encoder, Params, State, UserError

LEAVES = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}

UNUSED = r"num_batches_tracked$|^(fc|head|heads)\."  # counters and classifiers

# Patterns that convert torchvision's weight names of a Vision Transformer to timm's names.
TORCHVISION = (
  (r"^class_token$", "cls_token"),
  (r"^encoder\.pos_embedding$", "pos_embed"),
  (r"^conv_proj\.", "patch_embed.proj."),
  (r"^encoder\.layers\.encoder_layer_(\d+)\.", r"blocks.\1."),
  (r"\.ln_([12])\.", r".norm\1."),
  (r"\.self_attention\.in_proj_", ".attn.qkv."),
  (r"\.self_attention\.out_proj\.", ".attn.proj."),
  (r"\.mlp\.(?:0|linear_1)\.", ".mlp.fc1."),
  (r"\.mlp\.(?:3|linear_2)\.", ".mlp.fc2."),
  (r"^encoder\.ln\.", "norm."),
)


def pretrained(encoder: Encoder, path: str | os.PathLike) -> Encoder:
  """Returns `resnet(…)` or `vit(…)` with weights from a safetensors file.

  The file has the names and layouts of torchvision or timm. Nothing is downloaded, the classifier
  is ignored, and the running statistics of BatchNorm are included. Normalize the images as in the
  training of the weights, for example by (x − mean) / deviation per channel.

  Some wrong arguments of the encoder cannot be detected from shapes. For example, the ViT-S of timm
  needs heads=6. All files of Vision Transformers need positions="learned"; the file of MoCo v3
  contains its fixed positions as weights.

  In a jitted `init` the weights are constants of the program.

  Args:
    encoder: the encoder.
    path: the file, as `safetensors.torch.save_file(model.state_dict(), path)` writes it.

  Returns:
    The encoder. Its `init` ignores the random key. It raises UserError if the file cannot be read, or
    if a weight is missing, has another shape, or does not belong to the encoder. The message names the
    weight and both shapes.

  Example:
    >>> from contrastax import encoders
    >>> encoder = encoders.pretrained(encoders.resnet(50), "resnet50.safetensors")
  """

  def init(key, x):
    like = jax.eval_shape(encoder.init, key, x)
    try:
      return from_torch(_read(path), *like)
    except UserError as error:
      raise UserError(f"{path}: {error}") from None

  return encoder._replace(init=init)


def to_torch(params: Params, state: State) -> dict[str, np.ndarray]:
  """Returns the weights of `resnet` or `vit` under timm's names, in PyTorch's layout.

  The kernel of a convolution [h, w, in, out] becomes [out, in, h, w]. The kernel of a linear map
  [in, out] becomes [out, in]. `safetensors.numpy.save_file(to_torch(params, state), path)` writes a
  file that `pretrained` reads.

  Args:
    params: the parameters.
    state: the state.

  Returns:
    {name: array}.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from contrastax import encoders
    >>> encoder = encoders.resnet(8, stem="cifar", width=4)
    >>> weights = encoders.to_torch(*encoder.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3))))
    >>> weights["conv1.weight"].shape
    (4, 3, 3, 3)
  """
  leaves = jax.tree_util.tree_leaves_with_path(params) + jax.tree_util.tree_leaves_with_path(state)
  return {
    _name(path): np.ascontiguousarray(np.asarray(leaf).transpose(_axes(path, leaf)))
    for path, leaf in leaves
  }


def from_torch(
  weights: Mapping[str, np.ndarray], params: Params, state: State
) -> tuple[Params, State]:
  """Returns (params, state) with the values of `weights`.

  Args:
    weights: {name: array}, with torchvision's or timm's names and PyTorch's layout.
    params: a tree with the structure, shapes and types of the parameters.
    state: a tree with the structure, shapes and types of the state.

  Raises:
    UserError: a weight is missing, has another shape, or does not belong to the encoder.
  """
  by_timm_name = {name: (name, a) for name, a in weights.items() if not re.search(UNUSED, name)}
  if "class_token" in by_timm_name:
    by_timm_name = {_timm(name): pair for name, pair in by_timm_name.items()}

  def take(path, leaf):
    axes = _axes(path, leaf)
    shape = tuple(leaf.shape[axis] for axis in axes)
    if _name(path) not in by_timm_name:
      raise UserError(
        f"there is no {_name(path)}, of shape {shape} in the encoder; "
        "the weights are of another architecture"
      )
    name, array = by_timm_name.pop(_name(path))
    if array.shape != shape:
      raise UserError(
        f"{name} has shape {array.shape}, in the encoder {shape}; "
        "the weights are of another architecture"
      )
    return jax.numpy.asarray(array.transpose(np.argsort(axes)), leaf.dtype)

  trees = jax.tree_util.tree_map_with_path(take, (params, state))
  for timm_name, (name, array) in by_timm_name.items():
    learned = timm_name == "pos_embed"
    fix = 'use positions="learned"' if learned else "the weights are of another architecture"
    raise UserError(f"{name}, of shape {array.shape}, is not a weight of the encoder; {fix}")
  return trees


def _read(path: str | os.PathLike) -> dict[str, np.ndarray]:
  if not os.path.isfile(path):
    raise UserError("no such file")
  try:
    return load_file(path)
  except SafetensorError as error:
    raise UserError(f"the file is damaged or not a safetensors file ({error})") from None


def _name(path: tuple[Any, ...]) -> str:
  """Returns timm's name of a leaf. `stages/0/1/conv2/kernel` is `layer1.1.conv2.weight`."""
  keys = [entry.key for entry in path if isinstance(entry, jax.tree_util.DictKey)]
  keys[-1] = LEAVES.get(keys[-1], keys[-1])
  return re.sub(r"^stages\.(\d+)", lambda m: f"layer{int(m[1]) + 1}", ".".join(keys))


def _axes(path: tuple[Any, ...], leaf: Any) -> tuple[int, ...]:
  """Returns the permutation of the axes of a leaf that gives PyTorch's layout."""
  n = len(leaf.shape)
  return (n - 1, n - 2, *range(n - 2)) if path[-1].key == "kernel" else tuple(range(n))


def _timm(name: str) -> str:
  for pattern, timm_name in TORCHVISION:
    name = re.sub(pattern, timm_name, name)
  return name
