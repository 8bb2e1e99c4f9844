"""Encoders that start from the weights of other libraries."""

from __future__ import annotations

import os
from typing import Literal

import jax
import jax.numpy as jnp

from contrastax.core import Encoder, UserError, check_kind
from contrastax.encoders.frozen import frozen as frozen_encoder
from contrastax.encoders.layouts import arranged, find_prefix, timm_names, with_positions
from contrastax.encoders.resnet import resnet
from contrastax.encoders.torch_layout import filled
from contrastax.encoders.vit import vit
from contrastax.encoders.weight_files import (
  Moments,
  checksum,
  moments_of,
  naming,
  read,
  read_weights,
)


def pretrained(
  encoder: Encoder | None = None, path: str | os.PathLike | None = "", *,
  normalization: Literal["file", "none", "imagenet", "half"] | Moments = "file",
  prefix: str | None = None, resize_positions: bool = False, frozen: bool = False,
  sha256: str | None = None,
) -> Encoder:  # fmt: skip
  """An encoder that starts from the weights of a safetensors file.

  The file has the names and layouts of torchvision or timm, of the code of DINO, DINOv2, DINOv3, MoCo
  or MAE, or of Hugging Face's ViT, DINOv2, DINOv3 or SigLIP. Nothing is downloaded. The classifier is
  ignored, and the running statistics of BatchNorm are included.

  The encoder takes images in [0, 1], as all encoders do, and normalizes them itself:
  (x − mean) / deviation per channel.

  Some wrong arguments of the encoder cannot be detected from shapes. For example, the ViT-S of timm
  needs heads=6 and that of MoCo v3 heads=12. Files of Vision Transformers need positions="learned",
  except those of DINOv3; the file of MoCo v3 contains its fixed positions as weights.

  In a jitted `init` the weights are constants of the program.

  Args:
    encoder: `resnet(…)` or `vit(…)`. None means the encoder that the shapes in the file determine, with
      the number of attention heads that models of this width usually have.
    path: the file, as `safetensors.torch.save_file(model.state_dict(), path)` writes it. None means no
      file: the weights are drawn at random. So a trained encoder can be loaded without the file that
      it started from.
    normalization: how images are normalized. "imagenet" is the mean (0.485, 0.456, 0.406) and the
      deviation (0.229, 0.224, 0.225), "half" is 0.5 for both, "none" is no normalization, and a pair
      (mean, deviation) has one number per channel. "file" is what the file states: in the metadata
      that `contrastax export` writes, as `mean` and `std` in its metadata, in a `config.json` of timm or in a `preprocessor_config.json` of Hugging
      Face beside it; otherwise there is no normalization.
    prefix: the prefix of the names, such as "module.encoder_q". None finds the usual ones: `module.`,
      `model.`, `backbone.`, `encoder_q.`, `teacher.`, `vision_model.` and their combinations. It is
      needed if the file has several networks.
    resize_positions: whether learned positions of a square grid of patches are resampled (cubic) if
      the images have another number of patches.
    frozen: whether the encoder is not trained. It is then always in evaluation mode.
    sha256: the checksum that the file must have, in hexadecimal. None allows any file.

  Returns:
    The encoder. Its `init` ignores the random key. It raises UserError if the file cannot be read or
    has another checksum, or if a weight is missing, has another shape, or does not belong to the encoder.
    The message names the weight and both shapes.

  Raises:
    UserError: an argument is invalid, or the file is needed to determine the encoder or the
      normalization and cannot be read.

  Example:
    >>> from contrastax import encoders
    >>> resnet50 = encoders.resnet(50)
    >>> encoder = encoders.pretrained(resnet50, "resnet50.safetensors", normalization="imagenet")
  """
  if path == "":
    raise UserError("pretrained needs path, the safetensors file of the weights")
  moments = None if normalization == "file" else moments_of(normalization)
  if path is not None and (encoder is None or normalization == "file") and os.path.exists(path):
    known = read_weights(path, prefix, infer=encoder is None)
    if normalization == "file" and known.normalization is not None:
      moments = moments_of(known.normalization)
    if known.encoder is not None:
      kind, arguments = known.encoder["name"], known.encoder
      make = {"resnet": resnet, "vit": vit}[kind]
      encoder = make(**{key: value for key, value in arguments.items() if key != "name"})
  if encoder is None:
    fault = "there is no file" if path is None else f"{path}: no such file"
    raise UserError(f"{fault} that determines the encoder; give encoder=…")
  network = check_kind("pretrained: encoder", encoder, Encoder, "encoders.resnet(50)")

  def init(key, x):
    if moments is not None and x.shape[-1] not in {len(each) for each in moments}:
      raise UserError(
        f"pretrained: the normalization is of {len(moments[0])} channels, but the images have "
        f"{x.shape[-1]}; give normalization=(mean, deviation) with {x.shape[-1]} numbers each"
      )
    if path is None:
      return network.init(key, x)
    params, state = jax.eval_shape(network.init, key, x)
    with naming(path):
      if sha256 is not None and (found := checksum(path)) != sha256.lower():
        raise UserError(f"the file has the checksum {found}, not {sha256}; it has changed")
      weights = read(path)
      found = find_prefix(weights, prefix)
      named = {timm: (name, weights[name]) for timm, name in timm_names(weights, found).items()}
      named = arranged(named)
      patch = named.get("patch_embed.proj.weight")
      if patch is not None and patch[1].ndim == 4:
        grid = (x.shape[1] // patch[1].shape[2], x.shape[2] // patch[1].shape[3])
        named = with_positions(named, grid, resize=resize_positions)
      removed = f" (the prefix {found!r} was removed)" if found else ""
      return filled(named, params, state, removed)

  def apply(params, state, x, *, key=None, train):
    if moments is not None:
      mean, deviation = (jnp.asarray(each, x.dtype) for each in moments)
      x = (x - mean) / deviation
    return network.apply(params, state, x, key=key, train=train)

  whole = network._replace(init=init, apply=apply)
  return _frozen(whole) if frozen else whole


def _frozen(encoder: Encoder) -> Encoder:
  """Returns the encoder with all its weights in the state."""

  def init(key, x):
    params, state = encoder.init(key, x)
    return (), {"params": params, "state": state}

  return frozen_encoder(encoder, (), ())._replace(init=init)
