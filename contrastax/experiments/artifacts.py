"""The files of an exported encoder: parameters, a StableHLO program and an ONNX model."""

from __future__ import annotations

import contextlib
import logging
import pathlib
import warnings
from collections.abc import Callable, Collection, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export as jax_export

from contrastax.core import Array, UserError, embedding_of, named_leaves
from contrastax.experiments.onnx_operations import rewritten
from contrastax.files import write_json
from contrastax.training.description import FILE, spec_of
from contrastax.training.inputs import is_text
from contrastax.training.load import FrozenEncoder, load
from contrastax.training.weights import TIMM, layout_of, normalization_of, write_weights

STABLEHLO, ONNX = "model.stablehlo", "model.onnx"
PLATFORMS = ("cpu", "cuda", "tpu")
TOLERANCE, HALF_TOLERANCE = 1e-4, 2e-2
"""The largest relative error of an artifact; the second is for encoders that compute in 16 bits."""
EXAMPLES = 16
BATCHES = (1, 3, EXAMPLES)
"""The numbers of examples with which the artifacts are called."""
MISSING = "install it with pip install 'contrastax[onnx]'"


class NotWritten(Exception):
  """Raised if an artifact cannot be written for an encoder. The message is the reason."""


def program(run: FrozenEncoder) -> Callable[[Any], Array]:
  """Returns the function from inputs to embeddings float32 [n, d]. uint8 images are divided by 255."""

  def scaled(leaf: Array) -> Array:
    image = leaf.dtype == jnp.uint8 and leaf.ndim > 3
    return leaf.astype(jnp.float32) / 255 if image else leaf

  def embeddings(inputs: Any) -> Array:
    x = jax.tree.map(scaled, inputs)
    y, _ = run.encoder.apply(run.params, run.state, x, key=None, train=False)
    return embedding_of(y).astype(jnp.float32)

  return embeddings


def examples_of(inputs: Any) -> Any:
  """Returns generated examples with the shapes and types of an encoder's inputs.

  Images are noise of several contrasts; texts are letters of several lengths, of which one is empty;
  other integers are 0 and 1; numbers are normal.

  Args:
    inputs: the shape and type of one example.
  """
  rng = np.random.default_rng(0)

  def draw(spec: jax.ShapeDtypeStruct) -> np.ndarray:
    shape, dtype = (EXAMPLES, *spec.shape), np.dtype(spec.dtype)
    if is_text(spec):
      letters = rng.integers(97, 123, shape)
      lengths = np.linspace(0, spec.shape[0], EXAMPLES).round()
      return np.where(np.arange(spec.shape[0]) < lengths[:, None], letters, 0).astype(dtype)
    if len(spec.shape) > 2:
      contrast = np.linspace(0, 1, EXAMPLES).reshape(-1, *[1] * len(spec.shape))
      images = 0.5 + contrast * (rng.random(shape) - 0.5)
      return np.round(255 * images).astype(dtype) if dtype == np.uint8 else images.astype(dtype)
    if dtype.kind in "iub":
      return rng.integers(0, 2, shape).astype(dtype)
    return rng.normal(size=shape).astype(dtype)

  return jax.tree.map(draw, inputs)


def tolerance_of(run: FrozenEncoder) -> float:
  """Returns the largest relative error that an artifact may have."""
  batch = jax.tree.map(lambda x: jax.ShapeDtypeStruct((1, *x.shape), x.dtype), run.inputs)
  text = str(jax.make_jaxpr(program(run))(batch))
  return HALF_TOLERANCE if "bf16[" in text or "f16[" in text else TOLERANCE


def error_of(found: np.ndarray, expected: np.ndarray) -> float:
  """Returns the largest error of a row in relation to the largest norm of a row."""
  if found.shape != expected.shape:
    raise UserError(f"it gives {list(found.shape)} and not {list(expected.shape)}")
  difference = np.linalg.norm(np.float64(found) - expected, axis=1).max()
  return float(difference / max(np.linalg.norm(np.float64(expected), axis=1).max(), 1e-30))


def write_parameters(run: FrozenEncoder, folder: pathlib.Path) -> None:
  """Writes model.safetensors and encoder.json, which `contrastax.load` needs."""
  spec, projection = run.spec
  layout = layout_of(spec) if projection is None else layout_of(None)
  batch = jax.tree.map(lambda x: jax.ShapeDtypeStruct((1, *x.shape), x.dtype), run.inputs)
  content = {
    "encoder": spec,
    "network": run.network,
    "inputs": spec_of(batch),
    "fields": run.fields,
    "projection": projection,
    "layout": layout,
    "step": run.step,
  }
  normalization = normalization_of(spec) if layout == TIMM else None
  write_weights(folder, run.params, run.state, layout, normalization)
  write_json(folder / FILE, content)


def call_parameters(
  run: FrozenEncoder, folder: pathlib.Path, allow: Collection[str]
) -> Callable[[Any], np.ndarray]:
  """Loads what `write_parameters` wrote."""
  encoder = run.encoder if run.spec[0] is None else None
  return load(folder, encoder=encoder, allow=allow)


def write_stablehlo(run: FrozenEncoder, folder: pathlib.Path) -> None:
  """Writes the program with its parameters, for any number of examples.

  Raises:
    NotWritten: JAX cannot export the encoder.
  """
  try:
    exported = jax_export.export(jax.jit(program(run)), platforms=PLATFORMS)(_symbolic(run.inputs))
    content = exported.serialize()
  except Exception as error:  # An encoder may raise any error for a symbolic number of examples.
    raise NotWritten(_line(error)) from error
  (folder / STABLEHLO).write_bytes(content)


def call_stablehlo(folder: pathlib.Path) -> Callable[[Any], np.ndarray]:
  """Loads what `write_stablehlo` wrote."""
  exported = jax_export.deserialize(bytearray((folder / STABLEHLO).read_bytes()))
  return lambda inputs: np.asarray(exported.call(inputs))


def write_onnx(run: FrozenEncoder, folder: pathlib.Path) -> None:
  """Writes the ONNX model, for any number of examples.

  Raises:
    NotWritten: jax2onnx is not installed, or cannot convert the encoder.
  """
  try:
    with _quiet():
      import jax2onnx  # pyright: ignore[reportMissingImports]
      import onnxruntime  # noqa: F401 # pyright: ignore[reportMissingImports]
  except ImportError as error:
    raise NotWritten(f"{error.name} is missing; {MISSING}") from None
  spec = _symbolic(run.inputs)
  leaves, structure = jax.tree.flatten(spec)
  names = [name.replace("/", "_") or "input" for name, _ in named_leaves(run.inputs)]
  # While jax2onnx traces a function, it replaces the layers of Flax, and some replacements do not take
  # the arguments of these encoders. So it receives the operations of a trace that was made before.
  try:
    with _quiet():
      traced = jax.make_jaxpr(lambda *x: program(run)(structure.unflatten(x)))(*leaves)
      model = jax2onnx.to_onnx(rewritten(traced), inputs=leaves, input_names=names)
      (folder / ONNX).write_bytes(model.SerializeToString())
      call_onnx(folder, run.inputs)
  except OSError:  # The folder cannot be written.
    raise
  except Exception as error:  # The converter raises errors of many classes.
    (folder / ONNX).unlink(missing_ok=True)
    raise NotWritten(f"jax2onnx cannot convert this encoder: {_line(error)}") from error


def call_onnx(folder: pathlib.Path, inputs: Any) -> Callable[[Any], np.ndarray]:
  """Loads what `write_onnx` wrote."""
  import onnxruntime  # pyright: ignore[reportMissingImports]

  session = onnxruntime.InferenceSession(str(folder / ONNX), providers=["CPUExecutionProvider"])
  names = [each.name for each in session.get_inputs()]

  def call(examples: Any) -> np.ndarray:
    given = dict(zip(names, map(np.asarray, jax.tree.leaves(examples)), strict=True))
    return np.asarray(session.run(None, given)[0])

  return call


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
  """Suppresses the warnings of the converter in a context."""
  loggers = [logging.getLogger(name) for name in ("jax2onnx", "onnx_ir")]
  levels = [logger.level for logger in loggers]
  try:
    for logger in loggers:
      logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
      warnings.simplefilter("ignore")
      yield
  finally:
    for logger, level in zip(loggers, levels, strict=True):
      logger.setLevel(level)


def check(
  call: Callable[[Any], np.ndarray], examples: Any, expected: np.ndarray, tolerance: float
) -> float:
  """Calls a loaded artifact with several numbers of examples and returns its relative error.

  Raises:
    UserError: the error is above the tolerance.
  """
  errors = []
  for count in BATCHES:
    batch = jax.tree.map(lambda x, count=count: x[:count], examples)
    errors.append(error_of(np.asarray(call(batch)), expected[:count]))
  if not max(errors) <= tolerance:
    raise UserError(
      f"its embeddings differ from those of the encoder by {max(errors):.1e} of their norm, more than "
      f"{tolerance:.0e}"
    )
  return max(errors)


def _symbolic(inputs: Any) -> Any:
  """Returns the shapes and types of inputs with a symbolic number of examples."""
  scope = jax_export.SymbolicScope()

  def batch(spec: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
    text = ", ".join(["n", *map(str, spec.shape)])
    return jax.ShapeDtypeStruct(jax_export.symbolic_shape(text, scope=scope), spec.dtype)

  return jax.tree.map(batch, inputs)


def _line(error: Exception) -> str:
  text = " ".join(str(error).split())[:200] or type(error).__name__
  fixed = "the encoder needs a fixed number of examples; use x.shape[0] in place of len(x) in it"
  return fixed if "_DimExpr" in text else text
