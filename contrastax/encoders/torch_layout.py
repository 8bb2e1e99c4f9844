"""The parameters of `resnet` and `vit` under timm's names, in PyTorch's layout, and back."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from contrastax.core import Params, State, UserError
from contrastax.encoders.layouts import Named, arranged, timm_names

LEAVES = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}
# Patterns that convert the paths of parameters to timm's names.
RENAMES = (
  (r"^(?:params|state)\.", ""),  # of a frozen encoder
  (r"^stages\.(\d+)", lambda match: f"layer{int(match[1]) + 1}"),
  (r"^tokens$", "reg_token"),
  (r"^attn_pool\.tokens$", "attn_pool.latent"),
  (r"\.ls([12])\.weight$", r".ls\1.gamma"),
)
OTHER = "the weights are of another architecture"


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
    weights: {name: array}, with the names of one of the libraries that `pretrained` lists and
      PyTorch's layout, without a prefix.
    params: a tree with the structure, shapes and types of the parameters.
    state: a tree with the structure, shapes and types of the state.

  Raises:
    UserError: a weight is missing, has another shape, or does not belong to the encoder.
  """
  named = {timm: (name, weights[name]) for timm, name in timm_names(weights, "").items()}
  return filled(arranged(named), params, state, "")


def filled(weights: Named, params: Params, state: State, removed: str) -> tuple[Params, State]:
  """Returns (params, state) with the values of `weights`, by timm's names.

  Args:
    weights: the weights.
    params: a tree with the structure, shapes and types of the parameters.
    state: a tree with the structure, shapes and types of the state.
    removed: the end of a message.
  """
  weights = dict(weights)

  def take(path, leaf):
    axes = _axes(path, leaf)
    shape = tuple(leaf.shape[axis] for axis in axes)
    if _name(path) not in weights:
      raise UserError(
        f"there is no {_name(path)}, of shape {shape} in the encoder; {OTHER}{removed}"
      )
    name, array = weights.pop(_name(path))
    if array.shape != shape:
      fix = OTHER
      if _name(path) == "pos_embed" and array.shape[-1] == shape[-1]:
        fix = "the images have another number of patches: use resize_positions=True"
      raise UserError(f"{name} has shape {array.shape}, in the encoder {shape}; {fix}{removed}")
    return jnp.asarray(array.transpose(np.argsort(axes)), leaf.dtype)

  trees = jax.tree_util.tree_map_with_path(take, (params, state))
  for timm_name, (name, array) in weights.items():
    fix = 'use positions="learned"' if timm_name == "pos_embed" else OTHER
    raise UserError(
      f"{name}, of shape {array.shape}, is not a weight of the encoder; {fix}{removed}"
    )
  return trees


def _name(path: tuple[Any, ...]) -> str:
  """Returns timm's name of a leaf. `stages/0/1/conv2/kernel` is `layer1.1.conv2.weight`."""
  keys = [entry.key for entry in path if isinstance(entry, jax.tree_util.DictKey)]
  keys[-1] = LEAVES.get(keys[-1], keys[-1])
  name = ".".join(keys)
  for pattern, timm in RENAMES:
    name = re.sub(pattern, timm, name)
  return name


def _axes(path: tuple[Any, ...], leaf: Any) -> tuple[int, ...]:
  """Returns the permutation of the axes of a leaf that gives PyTorch's layout."""
  n = len(leaf.shape)
  return (n - 1, n - 2, *range(n - 2)) if path[-1].key == "kernel" else tuple(range(n))
