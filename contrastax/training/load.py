"""Loads trained encoders without the code that trained them."""

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
from contrastax.core import Encoder, Params, State, UserError, check_kind
from contrastax.evaluation import embed
from contrastax.files import read_json, write_json
from contrastax.parts import assemble
from contrastax.training.average import ENTRY
from contrastax.training.checkpoints import Checkpoints

REWRITTEN = "the command that started the run writes the file again"


@dataclasses.dataclass(frozen=True)
class FrozenEncoder:
  """A trained encoder: a function from inputs to embeddings.

  Args:
    encoder: the encoder.
    params: its parameters.
    state: its state.
    inputs: shape and type of one example, without the axis of examples: a `jax.ShapeDtypeStruct`,
      or a tree of them.
    step: step of the checkpoint that contains the parameters.
  """

  encoder: Encoder
  params: Params
  state: State
  inputs: Any
  step: int

  def __call__(self, inputs: Any, *, batch_size: int = 512, bounded: bool = True) -> np.ndarray:
    """Embeds inputs.

    Args:
      inputs: an array [n, …], or a tree of arrays, with the shapes that the encoder was trained on.
        Images are uint8, or float in [0, 1].
      batch_size: number of inputs in one call of the encoder.
      bounded: whether float images must lie in [0, 1]. Use False for random views.

    Returns:
      Embeddings, NumPy float32 [n, d].

    Raises:
      UserError: the inputs have another structure, shape, type or range.
    """
    inputs = _like(self.inputs, inputs)
    return embed(
      self.encoder, self.params, self.state, inputs, batch_size=batch_size, bounded=bounded
    )


def save_encoder_spec(
  workdir: str | os.PathLike, spec: Any, network: str, inputs: Any, *, averaged: bool = False
) -> None:
  """Writes `encoder.json`, which `load` needs in addition to a checkpoint.

  Args:
    workdir: folder of the run.
    spec: the encoder as specified in a config, or None if no config specifies it.
    network: name of the encoder among the run's parameters.
    inputs: the inputs of the encoder: an array, or a tree of arrays, with an axis of examples.
    averaged: whether the average of the weights is loaded, see `training.with_average`.
  """
  content = {"encoder": spec, "network": network, "inputs": _spec_of(inputs)}
  if averaged:
    content["averaged"] = True
  write_json(pathlib.Path(workdir) / "encoder.json", content)


def load(
  workdir: str | os.PathLike,
  *,
  encoder: Encoder | None = None,
  network: str | None = None,
  inputs: Any = None,
  allow: Collection[str] = (),
) -> FrozenEncoder:
  """Loads the encoder of a run, or another of its networks, from its newest intact checkpoint.

  The weights of a run with `average` are the average of those of its steps.

  Args:
    workdir: folder of the run, such as `runs/digits_simclr`.
    encoder: the encoder of the method, for a run that was started from code. None reads it from the
      run's config.
    network: the name of a network of the method, such as "other_encoder" of CLIP. `encoder`
      is then this network. None means the encoder that is evaluated. The input of a projection is an
      embedding.
    inputs: example inputs of the network, an array [n, …] or a tree of arrays, of which only the
      shapes and types are read. None reads these from the run, which has them for the encoder that
      is evaluated.
    allow: your own modules that the spec of the encoder may use, as `"package.module:function"`. No
      other module is imported.

  Returns:
    The encoder, a function from inputs to embeddings.

  Raises:
    UserError: `workdir` has no run or no checkpoint, its files are damaged, its encoder is in a
      module that `allow` does not list, `encoder` is not the encoder of the run, or `network` needs
      `encoder` and `inputs`.

  Example:
    >>> import contrastax
    >>> contrastax.load("nowhere")
    Traceback (most recent call last):
      ...
    contrastax.core.UserError: nowhere holds no run: it has no encoder.json
  """
  workdir = pathlib.Path(workdir)
  encoder, network, inputs, params, state, averaged = _read_spec(
    workdir / "encoder.json", encoder, network, inputs, allow
  )
  own: Any = {"params": {network: params}, "state": {network: state}}
  if averaged:
    own = {"state": {ENTRY: {"params": params, "state": state}}}
  with contextlib.closing(Checkpoints(workdir / "checkpoints")) as checkpoints:
    step = checkpoints.newest_intact()
    if step is None:
      raise UserError(f"{workdir} has no checkpoint yet; load it when the run has saved one")
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    like = jax.tree.map(
      lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device), own
    )
    tree = checkpoints.restore(step, like, partial=True)
  if averaged:
    params, state = tree["state"][ENTRY]["params"], tree["state"][ENTRY]["state"]
  else:
    params, state = tree["params"][network], tree["state"][network]
  return FrozenEncoder(encoder, params, state, inputs, step)


def _read_spec(
  path: pathlib.Path,
  encoder: Encoder | None,
  network: str | None,
  examples: Any,
  allow: Collection[str],
) -> tuple[Encoder, str, Any, Params, State, bool]:
  """Reads an encoder.json. The arguments of `load` that are not None replace its content.

  Returns:
    The network, its name among the run's parameters, the shapes of its inputs, parameters and
    state, and whether the average of its weights is loaded.
  """
  try:
    content = read_json(path, dict)
  except (FileNotFoundError, NotADirectoryError):
    raise UserError(f"{path.parent} holds no run: it has no encoder.json") from None
  except UserError as error:
    raise UserError(f"{error}; {REWRITTEN}") from None
  if "image_shape" in content:
    raise UserError(
      f"{path.parent} is a run of contrastax before version 0.2, which this version cannot read; "
      "train it again in another folder"
    )
  evaluated = content.get("network")
  if network not in (None, evaluated) and (encoder is None or examples is None):
    raise UserError(
      f"{path} describes the network {evaluated!r} only; pass another one together with an example of "
      f"its inputs: load(workdir, network={network!r}, encoder=…, inputs=…)"
    )
  if encoder is None and "encoder" in content and content["encoder"] is None:
    raise UserError(
      f"{path.parent} was trained from code; pass the encoder of its method to load: "
      "load(workdir, encoder=…)"
    )
  try:
    spec = content.get("inputs") if examples is None else _spec_of(examples)
    inputs, network = _read_inputs(spec), evaluated if network is None else network
    averaged = content.get("averaged") is True and network == evaluated
    if not isinstance(network, str):
      raise UserError(f"network must be a name, not {network!r}")
    batch = jax.tree.map(_one_example, inputs)
    if encoder is None:
      described = _assemble(content.get("encoder"), allow)
      params, state = jax.eval_shape(described.init, jax.random.key(0), batch)
      return described, network, inputs, params, state, averaged
  except NotAllowed as error:
    raise UserError(f"{path}: {error}") from None
  except Exception as error:  # A damaged file may specify any arguments of any encoder.
    fault = " ".join(str(error).split()) or type(error).__name__
    raise UserError(
      f"{path} does not describe an encoder of this library: {fault}; {REWRITTEN}"
    ) from error
  params, state = _passed_shapes(encoder, batch, path.parent, network)
  return encoder, network, inputs, params, state, averaged


def _passed_shapes(
  encoder: Encoder, batch: Any, workdir: pathlib.Path, network: str
) -> tuple[Params, State]:
  """Returns the shapes of the parameters and the state of the encoder that was passed to `load`."""
  check_kind("encoder", encoder, Encoder, "encoders.mlp((64,))")
  try:
    return jax.eval_shape(encoder.init, jax.random.key(0), batch)
  except Exception as error:  # An encoder may raise any error for inputs of another kind.
    fault = " ".join(str(error).split()) or type(error).__name__
    raise UserError(
      f"the encoder does not accept the inputs of the run in {workdir}: {fault}; pass the encoder that "
      f"the run had as {network!r}"
    ) from error


def _assemble(spec: Any, allow: Collection[str]) -> Encoder:
  return assemble(Encoder, spec, "encoder", allow=allow)


def _one_example(leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
  """Returns a batch of one example for the encoder, in which images are float."""
  image = len(leaf.shape) > 2 and leaf.dtype == np.uint8
  return jax.ShapeDtypeStruct((1, *leaf.shape), np.float32 if image else leaf.dtype)


def _spec_of(inputs: Any) -> Any:
  """Returns the shapes and types of a tree of inputs, as JSON."""
  if isinstance(inputs, Mapping):
    return {name: _spec_of(values) for name, values in inputs.items()}
  if isinstance(inputs, tuple):
    return [_spec_of(values) for values in inputs]
  return {"shape": list(inputs.shape[1:]), "dtype": str(inputs.dtype)}


def _read_inputs(spec: Any) -> Any:
  """Returns the tree of `jax.ShapeDtypeStruct` that `_spec_of` wrote."""
  if isinstance(spec, list) and spec:
    return tuple(map(_read_inputs, spec))
  if not (isinstance(spec, dict) and spec):
    raise UserError(f"inputs must be shapes and types, not {spec!r}")
  if isinstance(spec.get("shape"), list):
    shape = spec["shape"]
    if not all(type(size) is int and size > 0 for size in shape):
      raise UserError(f"a shape must be positive integers, not {shape!r}")
    return jax.ShapeDtypeStruct(tuple(shape), np.dtype(spec.get("dtype")))
  return {name: _read_inputs(inner) for name, inner in spec.items()}


def _like(spec: Any, inputs: Any, name: str = "inputs") -> Any:
  """Returns the inputs as NumPy arrays; raises UserError unless each example fits the spec."""
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
    expected, found = ", ".join(map(str, spec.shape)), list(inputs.shape)
    fix = ": pass images[..., None]" if (*found[1:], 1) == spec.shape else ""
    raise UserError(f"this encoder takes {what} [n, {expected}], not {found}{fix}")
  image = len(spec.shape) == 3
  if not image and np.issubdtype(spec.dtype, np.integer) and inputs.dtype.kind == "f":
    raise UserError(f"this encoder takes integers for {name}, not {inputs.dtype}")
  return inputs
