"""The definition of images, and its checks.

Images are [n, h, w, c], uint8 (0 is black, 255 white) or floating point in [0, 1]. Other integers,
bools and floats in another range raise an error, because their scale is unknown and a wrong scale
changes the features without an error. Types and shapes are always checked. Values are checked
outside `jax.jit`, where they are known.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from contrastax.core import Array, UserError
from contrastax.pairwise.inputs import check_kept

TOLERANCE = 0.01  # Resizing in half precision exceeds [0, 1] by less than this.


def to_float(images: Array | np.ndarray) -> Array | np.ndarray:
  """Converts images to floating point in [0, 1].

  uint8 is divided by 255. Floating point is returned unchanged.

  Args:
    images: an array of any shape, uint8 or floating point in [0, 1].

  Returns:
    An array of the same shape and kind (NumPy or JAX).

  Raises:
    UserError: the array has another type or, outside `jax.jit`, values outside [0, 1] or NaN.

  Example:
    >>> import numpy as np
    >>> from contrastax import views
    >>> print(views.to_float(np.array([0, 51, 255], np.uint8)))
    [0.  0.2 1. ]
  """
  check_type("to_float: images", images)
  check_range("to_float: images", images)
  return _scale(images)


def check_images(name: str, images: Any, *, bounded: bool = True) -> None:
  """Raises UserError unless `images` are [n, h, w, c], uint8 or floating point in [0, 1].

  Args:
    name: the name of the images in the error message, such as "embed: images".
    images: any object.
    bounded: whether floating-point images must lie in [0, 1].
  """
  check_type(name, images)
  check_rank(name, images)
  if bounded:
    check_range(name, images)


def check_inputs(name: str, inputs: Any, *, bounded: bool = True) -> None:
  """Raises UserError unless `inputs` are valid inputs of an encoder.

  Arrays of four axes or more are images and are checked as such. Arrays of fewer axes are vectors,
  tokens, bytes of a text or sequences of vectors; any numbers are valid. Integers of three axes
  are refused, because they are probably images without a channel axis.

  Args:
    name: the name of the inputs in the error message.
    inputs: any object.
    bounded: whether floating-point images must lie in [0, 1].
  """
  _check_array(name, inputs)
  if not (inputs.dtype == jnp.bool_ or jnp.issubdtype(inputs.dtype, jnp.number)):
    raise UserError(f"{name} must be numbers; found {inputs.dtype}")
  if inputs.ndim == 3 and not jnp.issubdtype(inputs.dtype, jnp.floating):
    check_rank(name, inputs)
  if inputs.ndim < 1 or 0 in inputs.shape:
    raise UserError(f"{name} must not be empty; found shape {list(inputs.shape)}")
  if inputs.ndim > 3:
    check_type(name, inputs)
    if bounded:
      check_range(name, inputs)


def as_input(inputs: Array | np.ndarray) -> Array | np.ndarray:
  """Converts inputs for an encoder: uint8 images are divided by 255."""
  return _scale(inputs) if inputs.ndim > 3 else inputs


def check_operation(operation: str, images: Any, **each: Any) -> None:
  """Raises UserError unless the arguments of an operation on images are valid.

  Args:
    operation: the name of the operation, for the error message.
    images: floating point, [n, h, w, c], with any values.
    each: arguments by name, each of which must be an array [n].
  """
  check_type(f"{operation}: images", images)
  if images.dtype == jnp.uint8:
    raise UserError(
      f"{operation}: images must be floating point; found uint8: pass views.to_float(images)"
    )
  check_rank(f"{operation}: images", images)
  for name, value in each.items():
    check_shape(f"{operation}: {name}", value, images.shape[:1])


def check_recipe(recipe: str, images: Any, index: Any) -> None:
  """Raises UserError unless a recipe can draw views of `images` with indices `index`."""
  check_images(f"{recipe}: images", images)
  check_index(recipe, images, index)


def check_index(recipe: str, images: Array | np.ndarray, index: Any) -> None:
  """Raises UserError unless `index` has one integer per image."""
  check_shape(f"{recipe}: index", index, images.shape[:1])
  if not jnp.issubdtype(index.dtype, jnp.integer):
    raise UserError(f"{recipe}: index must be integers; found {index.dtype}")
  if isinstance(index, np.ndarray):
    check_kept(f"{recipe}: index", index)


def check_shape(name: str, value: Any, shape: tuple[int, ...]) -> None:
  """Raises UserError unless `value` is an array of this shape."""
  _check_array(name, value)
  if value.shape != shape:
    raise UserError(f"{name} must have the shape {list(shape)}; found {list(value.shape)}")


def check_rank(name: str, images: Array | np.ndarray) -> None:
  """Raises UserError unless `images` are [n, h, w, c] without an empty axis."""
  shape = list(images.shape)
  if len(shape) == 3:
    fix = "pass images[..., None], or images[None] for one image"
    raise UserError(f"{name} must be [n, h, w, c]; found shape {shape}: {fix}")
  if len(shape) != 4:
    raise UserError(f"{name} must be [n, h, w, c]; found shape {shape}")
  if 0 in shape:
    raise UserError(f"{name} must not be empty; found shape {shape}")


def check_type(name: str, images: Any) -> None:
  """Raises UserError unless `images` is an array of uint8 or of floating point."""
  _check_array(name, images)
  dtype = images.dtype
  if dtype == jnp.uint8 or jnp.issubdtype(dtype, jnp.floating):
    return
  if dtype == jnp.uint16:
    fix = "divide by 65535"
  elif dtype == jnp.bool_:
    fix = "pass images.astype('float32')"
  elif jnp.issubdtype(dtype, jnp.integer):
    fix = "pass images.astype('uint8') if they are 0 to 255, else scale them to [0, 1]"
  else:
    fix = "pass real numbers"
  raise UserError(f"{name} must be uint8, or float in [0, 1]; found {dtype}: {fix}")


def check_range(name: str, images: Array | np.ndarray) -> None:
  """Raises UserError if a known value of floating-point images is not in [0, 1]."""
  if isinstance(images, Tracer) or images.dtype == jnp.uint8 or not images.size:
    return
  if isinstance(images, jax.Array):
    # This runs immediately on the images' device, even while `jax.jit` traces.
    with jax.ensure_compile_time_eval():
      low, high = map(float, jax.device_get(_extremes(images)))
  else:
    low, high = float(images.min()), float(images.max())
  if low >= -TOLERANCE and high <= 1 + TOLERANCE:
    return
  problem = f"{name} must be uint8, or float in [0, 1]; found {images.dtype}"
  if not (np.isfinite(low) and np.isfinite(high)):
    bad = ~np.isfinite(np.asarray(images)).reshape(len(images), -1).all(1)
    raise UserError(f"{problem} with NaN or infinity in image {bad.argmax()}: remove it")
  fix = "divide by 255" if low >= 0 and 1 < high <= 255 else "scale them to [0, 1]"
  raise UserError(f"{problem} in [{low:.4g}, {high:.4g}]: {fix}")


def _check_array(name: str, value: Any) -> None:
  if not isinstance(value, np.ndarray | jax.Array):
    raise UserError(
      f"{name} must be a NumPy or JAX array; found {type(value).__name__}: pass np.asarray(…)"
    )


def _scale(images: Array | np.ndarray) -> Array | np.ndarray:
  return images.astype(jnp.result_type(float)) / 255 if images.dtype == jnp.uint8 else images


@jax.jit
def _extremes(images: Array) -> tuple[Array, Array]:
  """Returns the minimum and maximum. Both are NaN if a value is NaN or infinite."""
  # XLA on a CPU may drop NaN from a minimum or maximum, but not from a sum.
  zero = (0 * images).sum()
  return images.min() + zero, images.max() + zero
