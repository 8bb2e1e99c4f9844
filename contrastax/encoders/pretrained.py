"""Others' weights: ResNets and Vision Transformers of torchvision and timm."""

from __future__ import annotations

import os
import re

import jax
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from contrastax.core import Encoder, UserError

LEAVES = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}

UNUSED = r"num_batches_tracked$|^(fc|head|heads)\."  # counters and classifiers

# torchvision's names of a Vision Transformer in timm's, which are ours.
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
  """`resnet(…)` or `vit(…)`, starting from the weights in a safetensors file.

  The file has the names and layouts of torchvision or timm, as made by
  `safetensors.torch.save_file(model.state_dict(), path)`; nothing is downloaded. The classifier
  is left out. These networks take images that are normalized as in their training, such as
  (x − mean) / deviation per channel, which is for the caller to do. What shapes cannot tell must be
  said right: timm's ViT-S has heads=6; all of these have positions="learned", and MoCo v3's file,
  whose positions are fixed, holds them too. BatchNorm's running statistics come along.

  `init` has the random key and the file, and no use for the former. In a jitted `init` the weights
  are constants of the program.

  Raises UserError where the file is missing or is none, or where a weight is missing, has another
  shape, or has no place in the encoder: the message names it, with both shapes.
  """

  def init(key, x):
    like = jax.eval_shape(encoder.init, key, x)
    try:
      return from_torch(_read(path), *like)
    except UserError as error:
      raise UserError(f"{path}: {error}") from None

  return encoder._replace(init=init)


def to_torch(params, state) -> dict[str, np.ndarray]:
  """The weights of `resnet` or `vit` by timm's names, in PyTorch's layout.

  A convolution's kernel [h, w, in, out] becomes [out, in, h, w], a linear one [in, out] [out, in].
  `safetensors.numpy.save_file(to_torch(params, state), path)` writes what `pretrained` reads.
  """
  leaves = jax.tree_util.tree_leaves_with_path(params) + jax.tree_util.tree_leaves_with_path(state)
  return {
    _name(path): np.ascontiguousarray(np.asarray(leaf).transpose(_axes(path, leaf)))
    for path, leaf in leaves
  }


def from_torch(weights, params, state):
  """(params, state) of the given trees' structure and types, with the values of `weights`."""
  ours = {name: (name, a) for name, a in weights.items() if not re.search(UNUSED, name)}
  if "class_token" in ours:
    ours = {_timm(name): pair for name, pair in ours.items()}

  def take(path, leaf):
    axes = _axes(path, leaf)
    shape = tuple(leaf.shape[axis] for axis in axes)
    name, array = ours.pop(_name(path), (None, None))
    if name is None:
      raise UserError(
        f"there is no {_name(path)}, of shape {shape} in the encoder; "
        "the weights are of another architecture"
      )
    if array.shape != shape:
      raise UserError(
        f"{name} has shape {array.shape}, in the encoder {shape}; "
        "the weights are of another architecture"
      )
    return jax.numpy.asarray(array.transpose(np.argsort(axes)), leaf.dtype)

  found = jax.tree_util.tree_map_with_path(take, (params, state))
  for timm, (name, array) in ours.items():
    learned = timm == "pos_embed"
    mend = 'take positions="learned"' if learned else "the weights are of another architecture"
    raise UserError(f"{name}, of shape {array.shape}, has no place in the encoder; {mend}")
  return found


def _read(path):
  if not os.path.isfile(path):
    raise UserError("no such file")
  try:
    return load_file(path)
  except SafetensorError as error:
    raise UserError(f"this is no safetensors file, or a damaged one ({error})") from None


def _name(path):
  """timm's name of a leaf: `stages/0/1/conv2/kernel` is `layer1.1.conv2.weight`."""
  keys = [entry.key for entry in path if hasattr(entry, "key")]
  keys[-1] = LEAVES.get(keys[-1], keys[-1])
  return re.sub(r"^stages\.(\d+)", lambda m: f"layer{int(m[1]) + 1}", ".".join(keys))


def _axes(path, leaf):
  """The order of our axes in PyTorch's layout."""
  n = len(leaf.shape)
  return (n - 1, n - 2, *range(n - 2)) if path[-1].key == "kernel" else tuple(range(n))


def _timm(name):
  for pattern, ours in TORCHVISION:
    name = re.sub(pattern, ours, name)
  return name
