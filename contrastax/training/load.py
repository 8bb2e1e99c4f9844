"""A trained encoder in one line, without the script that trained it."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
from collections.abc import Collection, Mapping
from typing import Any

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
  """An encoder with its trained parameters. Called with inputs, it gives their embeddings.

  inputs: what one example is, without the axis of examples: a `jax.ShapeDtypeStruct`, or a tree of
    them. step: the step of the checkpoint that the parameters are from.
  """

  encoder: Encoder
  params: Params
  state: State
  inputs: Any
  step: int

  def __call__(self, inputs: Any, *, batch_size: int = 512, bounded: bool = True) -> np.ndarray:
    """Embeddings of inputs, NumPy float32.

    Args:
      inputs: an array [n, …], or a tree of arrays, of the shapes that the encoder was trained on.
        Images are uint8, or float in [0, 1].
      batch_size: inputs in one call of the encoder.
      bounded: whether float images must lie in [0, 1]. False is for random views.

    Returns:
      [n, d].

    Raises:
      UserError: inputs of another structure, shape, type or range.
    """
    inputs = _like(self.inputs, inputs)
    return embed(
      self.encoder, self.params, self.state, inputs, batch_size=batch_size, bounded=bounded
    )


def save_encoder_spec(workdir: str | os.PathLike, spec: Any, network: str, inputs: Any) -> None:
  """Writes `encoder.json`, what `load` needs besides a checkpoint.

  Args:
    workdir: the folder of the run.
    spec: the encoder as a config states it; None: no config does.
    network: the name of the encoder among the run's parameters.
    inputs: what it encodes: an array, or a tree of arrays, with an axis of examples.
  """
  described = {"encoder": spec, "network": network, "inputs": _described_inputs(inputs)}
  write_json(pathlib.Path(workdir) / "encoder.json", described)


def load(
  workdir: str | os.PathLike, *, encoder: Encoder | None = None, allow: Collection[str] = ()
) -> FrozenEncoder:
  """Loads the encoder of a run from its newest intact checkpoint.

  Args:
    workdir: the folder of the run, such as `runs/digits_simclr`.
    encoder: the encoder of a run that was trained from code, as the method had it; None: the run's
      config states it.
    allow: your own modules that the run's encoder may name, as `"package.module:function"`. No other
      module is imported.

  Returns:
    The encoder, a function of inputs such as those that it was trained on.

  Raises:
    UserError: `workdir` holds no run or no checkpoint, its files are damaged, or its encoder is of a
      module that `allow` does not list.
  """
  workdir = pathlib.Path(workdir)
  encoder, network, inputs, params, state = _described(workdir / "encoder.json", encoder, allow)
  with contextlib.closing(Checkpoints(workdir / "checkpoints")) as checkpoints:
    step = checkpoints.newest_intact()
    if step is None:
      raise UserError(f"{workdir} has no checkpoint yet")
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    like = jax.tree.map(
      lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=here),
      {"params": {network: params}, "state": {network: state}},
    )
    tree = checkpoints.restore(step, like, partial=True)
  return FrozenEncoder(encoder, tree["params"][network], tree["state"][network], inputs, step)


def _described(path, encoder, allow):
  """What an encoder.json describes: the encoder, its name in checkpoints, what it encodes, and its
  parameters and state abstractly."""
  try:
    found = read_json(path, dict)
  except (FileNotFoundError, NotADirectoryError):
    raise UserError(f"{path.parent} holds no run: it has no encoder.json") from None
  except UserError as error:
    raise UserError(f"{error}; {REWRITTEN}") from None
  if "image_shape" in found:
    raise UserError(
      f"{path.parent} is a run of a version of contrastax before 0.2, which this one cannot read; "
      "train it again in another folder"
    )
  if encoder is None and "encoder" in found and found["encoder"] is None:
    raise UserError(
      f"{path.parent} was trained from code; give load the encoder that the method had: "
      "load(workdir, encoder=…)"
    )
  try:
    inputs = _read_inputs(found.get("inputs"))
    network = found.get("network")
    if not isinstance(network, str):
      raise UserError(f"network must be a name, not {network!r}")
    if encoder is None:
      encoder = assemble(Encoder, found.get("encoder"), "encoder", allow=allow)
    batch = jax.tree.map(_one_example, inputs)
    params, state = jax.eval_shape(encoder.init, jax.random.key(0), batch)
  except NotAllowed as error:
    raise UserError(f"{path}: {error}") from None
  except Exception as error:  # a damaged description reaches any encoder with any arguments
    fault = " ".join(str(error).split()) or type(error).__name__
    raise UserError(f"{path} describes no encoder of this library: {fault}; {REWRITTEN}") from error
  return encoder, network, inputs, params, state


def _one_example(leaf):
  """A batch of one, as the encoder gets it: images are float."""
  image = len(leaf.shape) > 2 and leaf.dtype == np.uint8
  return jax.ShapeDtypeStruct((1, *leaf.shape), np.float32 if image else leaf.dtype)


def _described_inputs(inputs):
  if isinstance(inputs, Mapping):
    return {name: _described_inputs(values) for name, values in inputs.items()}
  if isinstance(inputs, tuple):
    return [_described_inputs(values) for values in inputs]
  return {"shape": list(inputs.shape[1:]), "dtype": str(inputs.dtype)}


def _read_inputs(found):
  if isinstance(found, list) and found:
    return tuple(map(_read_inputs, found))
  if not (isinstance(found, dict) and found):
    raise UserError(f"inputs must be shapes and types, not {found!r}")
  if isinstance(found.get("shape"), list):
    shape = found["shape"]
    if not all(type(size) is int and size > 0 for size in shape):
      raise UserError(f"a shape must be positive integers, not {shape!r}")
    return jax.ShapeDtypeStruct(tuple(shape), np.dtype(found.get("dtype")))
  return {name: _read_inputs(inner) for name, inner in found.items()}


def _like(spec, inputs, name="inputs"):
  """The inputs as NumPy arrays; raises UserError unless each example is as `spec`."""
  if isinstance(spec, Mapping):
    if not (isinstance(inputs, Mapping) and set(inputs) == set(spec)):
      found = sorted(inputs) if isinstance(inputs, Mapping) else type(inputs).__name__
      raise UserError(f"this encoder takes a mapping of {sorted(spec)} for {name}, not {found}")
    return {field: _like(spec[field], inputs[field], f"{name} {field!r}") for field in spec}
  if isinstance(spec, tuple):
    if not (isinstance(inputs, tuple) and len(inputs) == len(spec)):
      raise UserError(
        f"this encoder takes a tuple of {len(spec)} for {name}, not {type(inputs).__name__}"
      )
    return tuple(
      _like(*pair, f"{name} {i}") for i, pair in enumerate(zip(spec, inputs, strict=True))
    )
  inputs = np.asarray(inputs)
  if inputs.shape[1:] != spec.shape:
    what = "images" if len(spec.shape) == 3 else name
    wanted, found = ", ".join(map(str, spec.shape)), list(inputs.shape)
    fix = ": pass images[..., None]" if (*found[1:], 1) == spec.shape else ""
    raise UserError(f"this encoder takes {what} [n, {wanted}], not {found}{fix}")
  image = len(spec.shape) == 3
  if not image and np.issubdtype(spec.dtype, np.integer) and inputs.dtype.kind == "f":
    raise UserError(f"this encoder takes integers for {name}, not {inputs.dtype}")
  return inputs
