"""A trained encoder in one line, without the script that trained it."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
from collections.abc import Collection, Mapping, Sequence

import jax
import numpy as np

from contrastax.annotations import NotAllowed
from contrastax.core import Encoder, Params, State, UserError
from contrastax.evaluation import embed
from contrastax.files import read_json, write_json
from contrastax.parts import assemble
from contrastax.training.checkpoints import Checkpoints

REWRITTEN = "the command that started the run writes the file again"


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


def describe_encoder(workdir: str | os.PathLike, spec: Mapping, image_shape: Sequence[int]) -> None:
  """Writes `encoder.json`, what `load` needs besides a checkpoint."""
  described = {"encoder": dict(spec), "image_shape": list(image_shape)}
  write_json(pathlib.Path(workdir) / "encoder.json", described)


def load(workdir: str | os.PathLike, *, allow: Collection[str] = ()) -> FrozenEncoder:
  """Loads the encoder of a run from its newest intact checkpoint.

  Args:
    workdir: the folder of the run, such as `runs/digits_simclr`.
    allow: your own modules that the run's encoder may name, as `"package.module:function"`. No other
      module is imported.

  Returns:
    The encoder, a function of images.

  Raises:
    UserError: `workdir` holds no run or no checkpoint, its files are damaged, or its encoder is of a
      module that `allow` does not list.
  """
  workdir = pathlib.Path(workdir)
  encoder, shape, params, state = _described(workdir / "encoder.json", allow)
  with contextlib.closing(Checkpoints(workdir / "checkpoints")) as checkpoints:
    step = checkpoints.newest_intact()
    if step is None:
      raise UserError(f"{workdir} has no checkpoint yet")
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    like = jax.tree.map(
      lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=here),
      {"params": {"encoder": params}, "state": {"encoder": state}},
    )
    tree = checkpoints.restore(step, like, partial=True)
  return FrozenEncoder(encoder, tree["params"]["encoder"], tree["state"]["encoder"], shape, step)


def _described(path, allow):
  """The encoder that an encoder.json describes, its image shape, and its params and state abstractly."""
  try:
    found = read_json(path, dict)
  except (FileNotFoundError, NotADirectoryError):
    raise UserError(f"{path.parent} holds no run: it has no encoder.json") from None
  except UserError as error:
    raise UserError(f"{error}; {REWRITTEN}") from None
  shape = found.get("image_shape")
  if not isinstance(shape, list) or not all(type(size) is int and size > 0 for size in shape):
    raise UserError(f"{path}: image_shape must be positive integers, not {shape!r}; {REWRITTEN}")
  image = jax.ShapeDtypeStruct((1, *shape), np.float32)
  try:
    encoder = assemble(Encoder, found.get("encoder"), "encoder", allow=allow)
    params, state = jax.eval_shape(encoder.init, jax.random.key(0), image)
  except NotAllowed as error:
    raise UserError(f"{path}: {error}") from None
  except Exception as error:  # a damaged description reaches any encoder with any arguments
    fault = " ".join(str(error).split()) or type(error).__name__
    raise UserError(f"{path} describes no encoder of this library: {fault}; {REWRITTEN}") from error
  return encoder, tuple(shape), params, state
