"""Data and encoders of the examples: real and small, from packages that contrastax installs."""

from __future__ import annotations

import inspect

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from contrastax import data
from contrastax.core import Encoder
from contrastax.encoders import from_nnx
from contrastax.encoders.transformer import Block

LENGTH = 48  # bytes of a text
MASK = 1  # a byte that no text has: it stands for a hidden one
digits = {name: values[:512] for name, values in data.load("digits").train.items()}


def as_bytes(texts: list[str]) -> np.ndarray:
  """[n, LENGTH] uint8, UTF-8, 0 after the end."""
  rows = np.zeros((len(texts), LENGTH), np.uint8)
  for row, text in zip(rows, texts, strict=True):
    encoded = text.encode()[:LENGTH]
    row[: len(encoded)] = np.frombuffer(encoded, np.uint8)
  return rows


def documentation() -> dict[str, np.ndarray]:
  """NumPy's functions: `name`, and the first sentence of their documentation, `text`, as bytes."""
  found = {}
  for name in sorted(dir(np)):
    lines = (inspect.getdoc(getattr(np, name)) or "").splitlines()
    text = next((line for line in lines if line.endswith(".") and "(" not in line), "")
    if name.islower() and len(text) > 20:
      found.setdefault(text, name.replace("_", " "))
  texts, names = list(found)[:256], list(found.values())[:256]
  return {"name": as_bytes(names), "text": as_bytes(texts)}


class ByteEncoder(nnx.Module):
  """Bytes through a transformer with dropout; returns `tokens`, their `mask`, and their mean."""

  def __init__(self, x, rngs, width, dropout):
    draw = jax.random.normal
    self.embedding = nnx.Param(0.02 * draw(rngs.params(), (256, width)))
    self.pos_embed = nnx.Param(0.02 * draw(rngs.params(), (x.shape[0], width)))
    self.block = Block(width, 2, None, rngs)
    self.norm = nnx.LayerNorm(width, use_fast_variance=False, rngs=rngs)
    self.dropout = nnx.Dropout(dropout, rngs=rngs)

  def __call__(self, x):
    mask = x > 0
    y = self.dropout(self.embedding[...][x.astype(jnp.int32)] + self.pos_embed[...])
    y = self.norm(self.dropout(self.block(y, mask)))
    count = jnp.maximum(mask.sum(1, keepdims=True), 1)
    embedding = jnp.where(mask[..., None], y, 0).sum(1) / count
    return {"embedding": embedding, "tokens": y, "mask": mask}


def byte_encoder(width: int = 32, dropout: float = 0.1) -> Encoder:
  return from_nnx(lambda x, rngs: ByteEncoder(x, rngs, width, dropout))


class PatchEncoder(nnx.Module):
  """Two convolutions; returns 16 patches of a digit as `tokens`, and their mean."""

  def __init__(self, x, rngs):
    self.first = nnx.Conv(x.shape[-1], 16, (3, 3), strides=2, rngs=rngs)
    self.second = nnx.Conv(16, 32, (3, 3), rngs=rngs)

  def __call__(self, x):
    y = jax.nn.relu(self.second(jax.nn.relu(self.first(x))))
    return {"embedding": y.mean((1, 2)), "tokens": y.reshape(len(y), -1, 32)}


def patch_encoder() -> Encoder:
  return from_nnx(PatchEncoder)


def linear(out: int) -> Encoder:
  return from_nnx(lambda x, rngs: nnx.Linear(x.shape[-1], out, rngs=rngs))
