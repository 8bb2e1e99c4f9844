"""Networks of torchvision, timm and Hugging Face: what tests/test_weights_of_peers.py compares ours to.

  pip install torch torchvision timm transformers    (in an environment of its own; jax is not needed)
  python -m benchmarks.weights_of_peers

Small models of each library with random weights, and their embeddings of two random images, in float64.
It takes seconds, and downloads nothing.

Writes tests/weights_of_peers.npz: `images` [2, 8, 8, 3]; for each model `MODEL/NAME`, its weights
under the names of its library, and `MODEL`, its embeddings; `meta`, a JSON text with the versions.
"""

from __future__ import annotations

import importlib.metadata
import json
import pathlib

import numpy as np
import timm
import torch
import torchvision
import transformers

FILE = pathlib.Path(__file__).parent.parent / "tests" / "weights_of_peers.npz"
WIDTH, SIDE, PATCH = 16, 8, 4
HUGGING_FACE = {
  "hidden_size": WIDTH,
  "num_hidden_layers": 2,
  "num_attention_heads": 2,
  "image_size": SIDE,
  "patch_size": PATCH,
}
TIMM = {"embed_dim": WIDTH, "depth": 2, "num_heads": 2, "patch_size": PATCH, "num_classes": 0}


def in_timm(name, **arguments):
  return timm.create_model(name, **{**TIMM, **arguments})


def in_torchvision():
  return torchvision.models.VisionTransformer(
    image_size=SIDE,
    patch_size=PATCH,
    num_layers=2,
    num_heads=2,
    hidden_dim=WIDTH,
    mlp_dim=4 * WIDTH,
  )


def in_hugging_face(name, **arguments):
  config = getattr(transformers, f"{name.removesuffix('Model')}Config")
  return getattr(transformers, name)(config(**HUGGING_FACE, **arguments))


def of_torchvision(model, x):
  tokens = model._process_input(x)
  return model.encoder(torch.cat([model.class_token.expand(len(x), -1, -1), tokens], 1))[:, 0]


def first(model, x):
  return model(pixel_values=x).last_hidden_state[:, 0]


def pooled(model, x):
  return model(pixel_values=x).pooler_output


def plain(model, x):
  return model(x)


MLP = {"intermediate_size": 4 * WIDTH}
MODELS = {
  "vit.torchvision": (in_torchvision, of_torchvision),
  "vit.timm": (lambda: in_timm("vit_tiny_patch16_224", img_size=SIDE), plain),
  "vit.hugging_face": (lambda: in_hugging_face("ViTModel", layer_norm_eps=1e-6, **MLP), first),
  "dinov2.timm": (lambda: in_timm("vit_small_patch14_dinov2", img_size=SIDE), plain),
  "dinov2.hugging_face": (lambda: in_hugging_face("Dinov2Model"), first),
  "dinov2_registers.timm": (
    lambda: in_timm("vit_small_patch14_reg4_dinov2", img_size=SIDE),
    plain,
  ),
  "dinov2_registers.hugging_face": (
    lambda: in_hugging_face("Dinov2WithRegistersModel", num_register_tokens=4),
    first,
  ),
  "dinov3.timm": (lambda: in_timm("vit_small_patch16_dinov3", global_pool="token"), plain),
  "dinov3.timm_qkvb": (
    lambda: in_timm("vit_small_patch16_dinov3_qkvb", global_pool="token"),
    plain,
  ),
  "dinov3.hugging_face": (
    lambda: in_hugging_face("DINOv3ViTModel", num_register_tokens=4, **MLP),
    first,
  ),
  "siglip.timm": (
    lambda: in_timm("vit_base_patch16_siglip_224", img_size=SIDE, act_layer="gelu_tanh"),
    plain,
  ),
  "siglip.hugging_face": (lambda: in_hugging_face("SiglipVisionModel", **MLP), pooled),
}


def randomize(model):
  """Draws all parameters, so that none is without effect as a bias or a layer scale of 0 would be."""
  with torch.no_grad():
    for name, parameter in model.named_parameters():
      if parameter.ndim > 1:
        parameter.normal_(0, 1 / np.sqrt(max(1, parameter[0].numel())))
      else:
        parameter.normal_(0, 0.3)
        parameter += float(name.endswith(("weight", "gamma", "gamma_1", "gamma_2", "lambda1")))
  return model.eval()


def main():
  torch.manual_seed(0)
  images = torch.rand(2, 3, SIDE, SIDE)
  found = {"images": images.permute(0, 2, 3, 1).numpy()}
  for name, (make, embed) in MODELS.items():
    model = randomize(make())
    found |= {f"{name}/{key}": value.numpy() for key, value in model.state_dict().items()}
    with torch.no_grad():
      found[name] = embed(model.double(), images.double()).numpy()
  packages = ("torch", "torchvision", "timm", "transformers")
  found["meta"] = json.dumps({each: importlib.metadata.version(each) for each in packages})
  np.savez_compressed(FILE, **found)


if __name__ == "__main__":
  main()
