"""What images are, checked in one place.

Images are [n, h, w, c], uint8 (0 is black, 255 white) or floating point in [0, 1]. Other integers,
bools and floats of another range are refused, because their scale is unknown: the same image would
give other features. Types and shapes are always checked, values where they are known: not inside
`jax.jit`.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from contrastax.core import Array, UserError
from contrastax.pairwise.inputs import check_kept

TOLERANCE = 0.01  # beyond [0, 1]: a resized image of half precision overshoots by less


def to_float(images: Array | np.ndarray) -> Array | np.ndarray:
  """Images in [0, 1]: uint8 is divided by 255, floating point is returned as it is.

  Args:
    images: an array of any shape, uint8 or floating point in [0, 1].

  Raises:
    UserError: another type; or, outside `jax.jit`, values outside [0, 1] or NaN.
  """
  check_type("to_float: images", images)
  check_range("to_float: images", images)
  return _scaled(images)


def check_images(name: str, images, *, bounded: bool = True) -> None:
  """Raises UserError unless `images` are [n, h, w, c], uint8 or floating point in [0, 1].

  Args:
    name: what the error calls them, such as "embed: images".
    images: anything.
    bounded: whether floating-point images must lie in [0, 1].
  """
  check_type(name, images)
  check_rank(name, images)
  if bounded:
    check_range(name, images)


def check_inputs(name: str, inputs, *, bounded: bool = True) -> None:
  """Checks what an encoder is given, of which four axes or more are images.

  Arrays of fewer axes are vectors, tokens, bytes of a text or sequences of vectors, and any type
  and value is allowed. Integers of three axes are refused: they are images without channels.
  Arguments and errors are those of `check_images`.
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
  """What an encoder is given: images of uint8 are divided by 255, other inputs stay as they are."""
  return _scaled(inputs) if inputs.ndim > 3 else inputs


def check_operation(operation: str, images, **each) -> None:
  """Raises UserError unless an operation on images can be computed.

  Args:
    operation: its name, for the error.
    images: must be floating point, [n, h, w, c], of any values.
    each: the operation's arguments, of which each must be a number per image, [n].
  """
  check_type(f"{operation}: images", images)
  if images.dtype == jnp.uint8:
    raise UserError(
      f"{operation}: images must be floating point; found uint8: pass views.to_float(images)"
    )
  check_rank(f"{operation}: images", images)
  for name, value in each.items():
    check_shape(f"{operation}: {name}", value, images.shape[:1])


def check_recipe(recipe: str, images, index) -> None:
  """Raises UserError unless `recipe(key, images, index)` can draw views of uint8 or float images."""
  check_images(f"{recipe}: images", images)
  check_index(recipe, images, index)


def check_index(recipe: str, images, index) -> None:
  """Raises UserError unless `index` has an integer for each of the images."""
  check_shape(f"{recipe}: index", index, images.shape[:1])
  if not jnp.issubdtype(index.dtype, jnp.integer):
    raise UserError(f"{recipe}: index must be integers; found {index.dtype}")
  if isinstance(index, np.ndarray):
    check_kept(f"{recipe}: index", index)


def check_shape(name: str, value, shape: tuple[int, ...]) -> None:
  """Raises UserError unless `value` is an array of this shape."""
  _check_array(name, value)
  if value.shape != shape:
    raise UserError(f"{name} must have the shape {list(shape)}; found {list(value.shape)}")


def check_rank(name: str, images) -> None:
  """Raises UserError unless `images` are [n, h, w, c], without an empty axis."""
  found = list(images.shape)
  if len(found) == 3:
    fix = "pass images[..., None], or images[None] of one image"
    raise UserError(f"{name} must be [n, h, w, c]; found shape {found}: {fix}")
  if len(found) != 4:
    raise UserError(f"{name} must be [n, h, w, c]; found shape {found}")
  if 0 in found:
    raise UserError(f"{name} must not be empty; found shape {found}")


def check_type(name: str, images) -> None:
  """Raises UserError unless `images` are an array of uint8 or of floating point."""
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


def check_range(name: str, images) -> None:
  """Raises UserError where floating-point images have known values, and one lies outside [0, 1]."""
  if isinstance(images, jax.core.Tracer) or images.dtype == jnp.uint8 or not images.size:
    return
  if isinstance(images, jax.Array):  # computed where they lie, and now, even inside `jax.jit`
    with jax.ensure_compile_time_eval():
      low, high = map(float, jax.device_get(_extremes(images)))
  else:
    low, high = float(images.min()), float(images.max())
  if low >= -TOLERANCE and high <= 1 + TOLERANCE:
    return
  wanted = f"{name} must be uint8, or float in [0, 1]; found {images.dtype}"
  if not (np.isfinite(low) and np.isfinite(high)):
    bad = ~np.isfinite(np.asarray(images)).reshape(len(images), -1).all(1)
    raise UserError(f"{wanted} with NaN or infinity in image {bad.argmax()}: remove it")
  fix = "divide by 255" if low >= 0 and 1 < high <= 255 else "scale them to [0, 1]"
  raise UserError(f"{wanted} in [{low:.4g}, {high:.4g}]: {fix}")


def _check_array(name, value):
  if not isinstance(value, np.ndarray | jax.Array):
    raise UserError(
      f"{name} must be a NumPy or JAX array; found {type(value).__name__}: pass np.asarray(…)"
    )


def _scaled(images):
  return images.astype(jnp.result_type(float)) / 255 if images.dtype == jnp.uint8 else images


@jax.jit
def _extremes(images):
  """(smallest, largest), both NaN where any is: XLA on a CPU may drop NaN from a maximum."""
  nothing = (0 * images).sum()
  return images.min() + nothing, images.max() + nothing
