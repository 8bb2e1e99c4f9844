"""A trained encoder in one line, without the script that trained it."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib

import jax
import numpy as np

from contrastax import encoders
from contrastax.core import Encoder, Params, State, UserError
from contrastax.evaluation import embed
from contrastax.parts import build
from contrastax.training.checkpoints import Checkpoints


@dataclasses.dataclass(frozen=True)
class FrozenEncoder:
  """An encoder with its trained parameters. Called with images, it gives their embeddings.

  step: of the checkpoint they are from.
  """

  encoder: Encoder
  params: Params
  state: State
  image_shape: tuple[int, ...]
  step: int

  def __call__(self, images, *, batch_size: int = 512, bounded: bool = True) -> np.ndarray:
    """Embeddings of images, NumPy float32.

    Args:
      images: [n, *image_shape], uint8 or float in [0, 1].
      batch_size: images in one call of the encoder.
      bounded: whether float images must lie in [0, 1]. False is for random views.

    Returns:
      [n, d].

    Raises:
      UserError: images of another shape, type or range.
    """
    images = np.asarray(images)
    if images.shape[1:] != self.image_shape:
      wanted, found = ", ".join(map(str, self.image_shape)), list(images.shape)
      fix = ": pass images[..., None]" if (*found[1:], 1) == self.image_shape else ""
      raise UserError(f"this encoder takes images [n, {wanted}], not {found}{fix}")
    return embed(
      self.encoder, self.params, self.state, images, batch_size=batch_size, bounded=bounded
    )


def describe_encoder(workdir: str | os.PathLike, spec, image_shape) -> None:
  """Writes `encoder.json`, what `load` needs besides a checkpoint."""
  text = json.dumps({"encoder": dict(spec), "image_shape": list(image_shape)}, indent=1)
  (pathlib.Path(workdir) / "encoder.json").write_text(text + "\n")


def load(workdir: str | os.PathLike) -> FrozenEncoder:
  """The encoder of a run, from its newest intact checkpoint: `load("runs/digits_simclr")`.

  Raises UserError where `workdir` holds no run, or no checkpoint.
  """
  workdir = pathlib.Path(workdir)
  try:
    found = json.loads((workdir / "encoder.json").read_text())
  except (FileNotFoundError, NotADirectoryError):
    raise UserError(f"{workdir} holds no run: it has no encoder.json") from None
  encoder, shape = build(encoders, found["encoder"]), tuple(found["image_shape"])
  image = jax.ShapeDtypeStruct((1, *shape), np.float32)
  params, state = jax.eval_shape(encoder.init, jax.random.key(0), image)
  checkpoints = Checkpoints(workdir / "checkpoints")
  step = checkpoints.newest_intact()
  if step is None:
    raise UserError(f"{workdir} has no checkpoint yet")
  here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  like = jax.tree.map(
    lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=here),
    {"params": {"encoder": params}, "state": {"encoder": state}},
  )
  tree = checkpoints.restore(step, like, partial=True)
  checkpoints.close()
  return FrozenEncoder(encoder, tree["params"]["encoder"], tree["state"]["encoder"], shape, step)
