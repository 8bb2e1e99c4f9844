"""The names and layouts of weights in the checkpoints of other libraries.

The names of timm are the common form. Those of torchvision, of the code of DINO, DINOv2, DINOv3,
MoCo and MAE, and of Hugging Face's ViT, DINOv2, DINOv3 and SigLIP are converted to it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from typing import Any

import jax
import numpy as np

from contrastax.core import UserError

Named = dict[str, tuple[str, np.ndarray]]
"""{timm's name: (the name in the file, the array)}."""

PREFIX = re.compile(
  r"(?:(?:module|_orig_mod|model|backbone|encoder|encoder_[qk]|base_encoder|momentum_encoder|"
  r"online_encoder|target_encoder|image_encoder|student|teacher|visual|vision_model|vision_tower|"
  r"trunk|net|network|vit|dinov2|dinov3_vit|state_dict)\.)*"
)
"""The prefixes of the weights of one network within a checkpoint."""
FIRST = (
  "conv1.weight",  # a ResNet
  "patch_embed.proj.weight",  # timm, DINO
  "conv_proj.weight",  # torchvision
  "embeddings.patch_embeddings.projection.weight",  # Hugging Face: ViT, DINOv2
  "embeddings.patch_embeddings.weight",  # DINOv3
  "embeddings.patch_embedding.weight",  # SigLIP
)
"""The first weights of the networks, by which a prefix is found."""

RENAMES = tuple(
  (re.compile(pattern), name)
  for pattern, name in (
    # torchvision
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
    # DINOv2, DINOv3 and their models in timm
    (r"^(?:register_tokens|storage_tokens)$", "reg_token"),
    (r"\.gamma_([12])$", r".ls\1.gamma"),
    (r"\.attn\.(q|k|v)_bias$", r".attn.\1.bias"),
    # Hugging Face
    (r"^embeddings\.(?:register_tokens)$", "reg_token"),
    (r"^embeddings\.(cls_token|mask_token)$", r"\1"),
    (r"^embeddings\.patch_embeddings?\.(?:projection\.)?", "patch_embed.proj."),
    (r"^embeddings\.position_embeddings?(?:\.weight)?$", "pos_embed"),
    (r"^(?:encoder\.|model\.)?layers?\.(\d+)\.", r"blocks.\1."),
    (r"\.(?:layernorm_before|layer_norm1)\.", ".norm1."),
    (r"\.(?:layernorm_after|layer_norm2)\.", ".norm2."),
    (r"\.(?:attention|self_attn)(?:\.attention)?\.(q|k|v)(?:uery|ey|alue|_proj)\.", r".attn.\1."),
    (r"\.attention\.output\.dense\.|\.self_attn\.out_proj\.|\.attention\.o_proj\.", ".attn.proj."),
    (r"\.intermediate\.dense\.|\.mlp\.up_proj\.", ".mlp.fc1."),
    (r"^(blocks\.\d+)\.output\.dense\.", r"\1.mlp.fc2."),
    (r"\.mlp\.down_proj\.", ".mlp.fc2."),
    (r"\.layer_scale([12])\.lambda1$", r".ls\1.gamma"),
    (r"^(?:layernorm|post_layernorm)\.", "norm."),
    (r"^head\.probe$", "attn_pool.latent"),
    (r"^head\.attention\.in_proj_", "attn_pool.qkv."),
    (r"^head\.attention\.out_proj\.", "attn_pool.proj."),
    (r"^head\.layernorm\.", "attn_pool.norm."),
    (r"^head\.mlp\.(fc[12])\.", r"attn_pool.mlp.\1."),
  )
)
"""Patterns that convert names to those of timm. They are applied in this order."""

UNUSED = re.compile(
  r"num_batches_tracked$|position_ids$|^(?:fc|head|heads|classifier|pooler|rope\w*)\."
  r"|^decoder_|^mask_token$"
)
"""Counters, constants, classifiers and decoders."""

HEADS = {192: 3, 384: 6, 768: 12, 1024: 16, 1152: 16, 1280: 16, 1408: 16, 1536: 24}
"""The number of attention heads of the usual widths."""


def find_prefix(names: Collection[str], prefix: str | None) -> str:
  """Returns the prefix of the weights of a network in a checkpoint, such as `module.encoder_q.`.

  Args:
    names: the names of all weights.
    prefix: the prefix, or None to find it.

  Raises:
    UserError: no name has the prefix, or there are several networks.
  """
  if prefix is not None:
    prefix = f"{prefix.rstrip('.')}." if prefix else ""
    if not any(name.startswith(prefix) for name in names):
      raise UserError(
        f"no weight has the prefix {prefix!r}; the first is {min(names, default='')!r}"
      )
    return prefix
  found = sorted(
    {
      name.removesuffix(first)
      for name in names
      for first in FIRST
      if name.endswith(first) and PREFIX.fullmatch(name.removesuffix(first))
    }
  )
  if len(found) > 1:
    raise UserError(
      f"the file has the weights of several networks, with the prefixes {', '.join(map(repr, found))}; "
      f"give one of them, such as prefix={found[0]!r}"
    )
  return found[0] if found else ""


def timm_names(names: Collection[str], prefix: str) -> dict[str, str]:
  """Returns {timm's name: name in the file} of the weights that belong to the encoder.

  Args:
    names: the names of all weights.
    prefix: the prefix of those of the network, see `find_prefix`.
  """
  result = {}
  for name in names:
    if name.startswith(prefix):
      timm = name.removeprefix(prefix)
      for pattern, replacement in RENAMES:
        timm = pattern.sub(replacement, timm)
      if not UNUSED.search(timm):
        result[timm] = name
  return result


def arranged(weights: Named) -> Named:
  """Returns the weights with timm's division into arrays.

  Queries, keys and values become one array. Biases that the file does not have or masks out are 0.
  The query of an attention pooling is separated from keys and values.
  """
  weights = dict(weights)
  for name in [name for name in weights if name.endswith(".bias_mask")]:
    mask, bias = weights.pop(name)[1], name.removesuffix("_mask")
    if bias in weights:
      weights[bias] = (weights[bias][0], np.where(mask == 0, 0, weights[bias][1]))
  ends = (".attn.q.weight", ".attn.q.bias")
  for block in {name.rpartition("q.")[0] for name in weights if name.endswith(ends)}:
    for kind in ("weight", "bias"):
      parts = {part: weights.pop(f"{block}{part}.{kind}", None) for part in "qkv"}
      known = [found for found in parts.values() if found is not None]
      if known:
        zeros = np.zeros_like(known[0][1])
        arrays = [zeros if found is None else found[1] for found in parts.values()]
        weights[f"{block}qkv.{kind}"] = (known[0][0], np.concatenate(arrays))
  products = [name for name in weights if name.endswith(".attn.qkv.weight")]
  if not any(name.endswith(".attn.qkv.bias") for name in weights):
    for name in products:
      original, array = weights[name]
      bias = np.zeros(len(array), array.dtype)
      weights[name.replace(".weight", ".bias")] = (original, bias)
  for kind in ("weight", "bias"):
    if whole := weights.pop(f"attn_pool.qkv.{kind}", None):
      q, kv = np.split(whole[1], [len(whole[1]) // 3])
      weights[f"attn_pool.q.{kind}"], weights[f"attn_pool.kv.{kind}"] = (
        (whole[0], q),
        (whole[0], kv),
      )
  if "pos_embed" in weights and weights["pos_embed"][1].ndim == 2:
    original, array = weights["pos_embed"]
    weights["pos_embed"] = (original, array[None])
  return weights


def with_positions(weights: Named, grid: tuple[int, int], *, resize: bool) -> Named:
  """Returns the weights with the position embeddings of a grid of patches.

  If the class token has no position in the file, it gets the position 0.

  Args:
    weights: the weights by timm's names.
    grid: the rows and columns of patches.
    resize: whether positions of a square grid of another size are resampled.
  """
  if "pos_embed" not in weights:
    return weights
  original, array = weights["pos_embed"]
  count, token = array.shape[1], "cls_token" in weights
  side = math.isqrt(count)
  before = 0 if not token or side**2 == count or count == math.prod(grid) else 1
  first, patches = array[:, :before], array[:, before:]
  side = math.isqrt(patches.shape[1])
  if resize and patches.shape[1] != math.prod(grid) and side**2 == patches.shape[1]:
    square = patches.reshape(side, side, -1).astype(np.float32)
    shape = (*grid, patches.shape[-1])
    # The cubic kernel with a = −1/2 and antialiasing, as in PyTorch's `interpolate`.
    with jax.ensure_compile_time_eval():
      moved = jax.image.resize(square, shape, "cubic", antialias=True)
    patches = np.asarray(moved).reshape(1, math.prod(grid), -1).astype(array.dtype)
  if token and not before:
    first = np.zeros_like(patches[:, :1])
  return {**weights, "pos_embed": (original, np.concatenate([first, patches], 1))}


def architecture(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
  """Returns the spec of the encoder with these weights.

  The number of attention heads does not follow from shapes. It is that of the usual models of the
  same width.

  Args:
    shapes: {timm's name: shape}.

  Raises:
    UserError: the weights are not those of a `resnet` or a `vit`.
  """
  if "patch_embed.proj.weight" in shapes:
    return _vit(shapes)
  if "conv1.weight" in shapes:
    return _resnet(shapes)
  first = ", ".join(sorted(shapes)[:3])
  raise UserError(
    f"the weights ({first}, …) are not those of a ResNet or a Vision Transformer; give the encoder"
  )


def _resnet(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
  width, _, size, _ = shapes["conv1.weight"]
  names = [re.match(r"layer(\d+)\.(\d+)\.conv1\.", name) for name in shapes]
  blocks = [(int(match[1]), int(match[2])) for match in names if match]
  stages = sorted({stage for stage, _ in blocks})
  counts = tuple(sum(stage == each for each, _ in blocks) for stage in stages)
  bottleneck = any(name.endswith(".conv3.weight") for name in shapes)
  known = {(1, 1, 1): 8, (2, 2, 2, 2): 18, (3, 4, 6, 3): 50 if bottleneck else 34}
  depth = known.get(counts)
  if depth is None or (bottleneck and depth != 50) or size not in (3, 7):
    kind = "bottleneck" if bottleneck else "basic"
    raise UserError(
      f"a ResNet with {counts} {kind} blocks and a first kernel of {size}×{size} is not one of "
      "resnet's depths 8, 18, 34 and 50; give the encoder"
    )
  stem = "imagenet" if size == 7 else "cifar"
  return {"name": "resnet", "depth": depth, "stem": stem, "width": width}


def _vit(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
  width, _, patch, _ = shapes["patch_embed.proj.weight"]
  blocks = [re.match(r"blocks\.(\d+)\.", name) for name in shapes]
  depth = 1 + max((int(match[1]) for match in blocks if match), default=-1)
  if width not in HEADS or not depth:
    raise UserError(
      f"the number of attention heads of a ViT of width {width} does not follow from the file; give "
      f"the encoder, such as vit({width}, {depth}, heads=…, patch={patch})"
    )
  attention, rope = "attn_pool.latent" in shapes, "pos_embed" not in shapes
  return {
    "name": "vit",
    "width": width,
    "depth": depth,
    "heads": HEADS[width],
    "patch": patch,
    "positions": "rope" if rope else "learned",
    "freeze_patches": False,
    "registers": shapes["reg_token"][1] if "reg_token" in shapes else 0,
    "layer_scale": 1e-5 if "blocks.0.ls1.gamma" in shapes else None,
    "pool": "attention" if attention else "token",
    "gelu": "tanh" if attention else "exact",
    "epsilon": 1e-5 if rope else 1e-6,
  }
