"""A run of CLIP with random weights, which needs no training: images 8×8×3 and texts of 16 bytes."""

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from contrastax import encoders, training
from contrastax.training.description import save_encoder_spec

IMAGES, TEXTS = np.zeros((1, 8, 8, 3), np.uint8), np.zeros((1, 16), np.uint8)
HEAD = {"name": "projection", "widths": (), "out": 6}
IMAGE_ENCODER = {"name": "mlp", "widths": (32,)}
TEXT_ENCODER = {"name": "text", "width": 8, "depth": 1, "heads": 2}
CLASSES = ("chats été", "dogs")


def made_run(folder, step=3, seed=0):
  """Writes encoder.json and a checkpoint; returns the folder."""
  head = encoders.projection((), out=6)
  networks = {
    "encoder": (encoders.mlp((32,)), jnp.zeros((1, 8, 8, 3))),
    "projection": (head, jnp.zeros((1, 32))),
    "other_encoder": (encoders.text(8, depth=1, heads=2), TEXTS),
    "other_projection": (head, jnp.zeros((1, 8))),
  }
  trees = {
    name: network.init(jax.random.key(seed + i), x)
    for i, (name, (network, x)) in enumerate(networks.items())
  }
  checkpoints = training.Checkpoints(folder / "checkpoints")
  params = {name: params for name, (params, _) in trees.items()}
  state = {name: state for name, (_, state) in trees.items()}
  checkpoints.save(step, {"params": params, "state": state, "data": np.zeros((), np.uint32)})
  checkpoints.wait()
  checkpoints.close()
  others = {
    "projection": {"encoder": HEAD, "of": "encoder"},
    "other_encoder": {"encoder": TEXT_ENCODER, "fields": "text", "inputs": TEXTS},
    "other_projection": {"encoder": HEAD, "of": "other_encoder"},
  }
  save_encoder_spec(folder, IMAGE_ENCODER, "encoder", IMAGES, fields="image", networks=others)
  return folder


def write_photos(folder, count=10):
  """Writes images of several sizes and formats into two classes, and two broken files."""
  rng = np.random.default_rng(0)
  for i in range(count):
    place = folder / CLASSES[i % 2]
    place.mkdir(parents=True, exist_ok=True)
    pixels = rng.integers(0, 256, (9 + i, 12, 3), np.uint8)
    Image.fromarray(pixels).save(
      place / f"é {i:02d}.{('png', 'webp', 'bmp')[i % 3]}", lossless=True
    )
  (folder / "dogs" / "broken.png").write_bytes(b"no image")
  (folder / "dogs" / "empty.jpg").write_bytes(b"")
  return folder
