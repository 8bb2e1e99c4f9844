"""Weights under the names of torchvision, timm and Hugging Face give the embeddings of these libraries.

benchmarks/weights_of_peers.py makes the golden values with the libraries themselves.
"""

import json
import pathlib

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

from contrastax.encoders import pretrained, vit

GOLDEN = dict(np.load(pathlib.Path(__file__).parent / "weights_of_peers.npz"))
IMAGES, META = GOLDEN.pop("images"), json.loads(str(GOLDEN.pop("meta")))
MODELS = [name for name in GOLDEN if "/" not in name]
LEARNED = {"positions": "learned"}
ARGUMENTS = {
  "vit": LEARNED,
  "dinov2": {**LEARNED, "layer_scale": 1e-5},
  "dinov2_registers": {**LEARNED, "layer_scale": 1e-5, "registers": 4},
  "dinov3": {"positions": "rope", "layer_scale": 1e-5, "registers": 4, "epsilon": 1e-5},
  "siglip": {**LEARNED, "pool": "attention", "gelu": "tanh"},
}


def test_all_libraries_were_asked():
  assert set(META) == {"torch", "torchvision", "timm", "transformers"} and len(MODELS) == 12


@pytest.mark.parametrize("name", MODELS)
def test_the_embeddings_are_those_of_the_library(name, tmp_path):
  weights = {
    key.removeprefix(f"{name}/"): array
    for key, array in GOLDEN.items()
    if key.startswith(f"{name}/")
  }
  save_file(weights, tmp_path / "weights.safetensors")
  plain = vit(16, 2, 2, patch=4, **ARGUMENTS[name.partition(".")[0]])
  encoder = pretrained(plain, tmp_path / "weights.safetensors")
  params, state = encoder.init(jax.random.key(0), IMAGES)
  y, _ = encoder.apply(params, state, IMAGES, train=False)
  assert np.abs(GOLDEN[name]).max() > 0.5
  np.testing.assert_allclose(y, GOLDEN[name], atol=1e-5)
