"""Views: each operation against its definition, each random parameter by its moments."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastax.core import UserError
from contrastax.views import add_noise, affine, affine_jitter, flip, intensity, to_float

LIMITS = {"shift": 0.05, "scale": 0.25, "rotation": 20.0, "intensity": 0.3}
EVERYTHING = affine_jitter(**LIMITS, noise=1e-4, mirror=0.3)
JITTED = jax.jit(EVERYTHING)
NOTHING = {"shift": 0.0, "scale": 0.0, "rotation": 0.0, "intensity": 0.0, "noise": 0.0}


def random_images(*shape, seed=0, dtype=np.float64):
  return np.random.default_rng(seed).random(shape).astype(dtype)


def affine_by_loops(image, shift, scale, angle):
  """Every output pixel, looked up where the forward map says that it comes from.

  Rows count downwards. Turning by `angle` takes the vector to the right, (0, 1), to
  (sin, cos): towards the bottom.
  """
  height, width, channels = image.shape
  center = np.array([(height - 1) / 2, (width - 1) / 2])
  turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
  forward = scale * turn

  def pixel(row, column):
    inside = 0 <= row < height and 0 <= column < width
    return image[row, column] if inside else np.zeros(channels)

  out = np.zeros_like(image)
  for row in range(height):
    for column in range(width):
      place = np.array([row, column]) - center - shift
      y, x = np.linalg.solve(forward, place) + center
      top, left = int(np.floor(y)), int(np.floor(x))
      down, right = y - top, x - left
      out[row, column] = (
        (1 - down) * (1 - right) * pixel(top, left)
        + (1 - down) * right * pixel(top, left + 1)
        + down * (1 - right) * pixel(top + 1, left)
        + down * right * pixel(top + 1, left + 1)
      )
  return out


jitted_affine = jax.jit(affine)


def warp(image, shift=(0.0, 0.0), scale=1.0, angle=0.0):
  """One image through `affine`."""
  dtype = image.dtype
  return np.asarray(
    jitted_affine(
      image[None],
      shift=np.asarray([shift], dtype),
      scale=np.asarray([scale], dtype),
      angle=np.asarray([angle], dtype),
    )
  )[0]


PLACES = {
  "shift": ((0.3, -1.7), 1.0, 0.0),
  "enlarge": ((0.0, 0.0), 1.6, 0.0),
  "shrink": ((0.0, 0.0), 0.45, 0.0),
  "turn": ((0.0, 0.0), 1.0, 0.6),
  "all": ((1.2, 0.7), 1.3, -2.1),
  "half outside": ((-4.4, 3.3), 0.8, 0.2),
  "far outside": ((1e3, -1e4), 1.0, 0.3),
  "a point": ((0.2, 0.1), 1e-3, 0.4),
  "one pixel filling all": ((0.1, 0.2), 1e3, 0.4),
}


@pytest.mark.parametrize("shape", [(8, 8, 1), (9, 6, 2), (5, 12, 2)], ids=str)
@pytest.mark.parametrize("place", PLACES)
def test_affine_is_its_per_pixel_definition(place, shape):
  shift, scale, angle = PLACES[place]
  image = random_images(*shape)
  expected = affine_by_loops(image, np.asarray(shift), scale, angle)
  with jax.enable_x64(True):
    found = warp(image, shift, scale, angle)
  assert found.dtype == np.float64
  np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10)
  # float32 places are good to 1e-6 of a pixel, times the scale at which they are read.
  single = warp(image.astype(np.float32), shift, scale, angle)
  assert single.dtype == np.float32
  np.testing.assert_allclose(single, expected, rtol=0, atol=1e-5 * max(1, 1 / scale))


def test_affine_gives_each_image_its_own_parameters():
  images = random_images(3, 7, 6, 2)
  shift = np.array([[0.5, 0.0], [0.0, -1.5], [2.0, 1.0]])
  scale, angle = np.array([1.0, 1.4, 0.7]), np.array([0.0, 0.5, -1.0])
  with jax.enable_x64(True):
    found = np.asarray(jitted_affine(images, shift=shift, scale=scale, angle=angle))
  for i in range(3):
    expected = affine_by_loops(images[i], shift[i], scale[i], angle[i])
    np.testing.assert_allclose(found[i], expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("shape", [(8, 8, 1), (9, 6, 2), (1, 5, 3), (32, 33, 1)], ids=str)
def test_affine_without_a_change_gives_the_image_exactly(shape):
  image = random_images(*shape, dtype=np.float32)
  np.testing.assert_array_equal(warp(image), image)


@pytest.mark.parametrize("down, right", [(2, 0), (0, 3), (-1, -2), (4, -5)])
def test_a_shift_by_whole_pixels_moves_down_and_right_and_leaves_zeros(down, right):
  image = random_images(9, 6, 2, dtype=np.float32)
  room = np.pad(image, ((9, 9), (6, 6), (0, 0)))
  expected = np.roll(room, (down, right), (0, 1))[9:18, 6:12]
  np.testing.assert_array_equal(warp(image, (down, right)), expected)


def test_a_quarter_turn_takes_the_right_to_the_bottom():
  image = random_images(7, 7, 2, dtype=np.float32)
  clockwise = np.rot90(image, -1)
  np.testing.assert_array_equal(clockwise[-1, ::-1], image[:, -1])  # right side, now the bottom
  np.testing.assert_allclose(warp(image, angle=np.pi / 2), clockwise, atol=1e-5)
  np.testing.assert_allclose(warp(image, angle=-np.pi / 2), np.rot90(image), atol=1e-5)


def test_flip_mirrors_only_where_asked():
  images = random_images(4, 5, 6, 2)
  found = np.asarray(flip(images.astype(np.float32), np.array([True, False, False, True])))
  expected = images.astype(np.float32).copy()
  for i in (0, 3):
    expected[i] = np.fliplr(expected[i])
  np.testing.assert_array_equal(found, expected)


def test_intensity_multiplies_each_image_and_clips_nothing():
  images = random_images(3, 4, 5, 2, dtype=np.float32)
  factor = np.array([0.0, 1.0, 7.0], np.float32)
  found = np.asarray(intensity(images, factor))
  for i in range(3):
    np.testing.assert_array_equal(found[i], images[i] * factor[i])
  assert found.max() > 1


def test_add_noise_adds_the_noise_times_its_deviation():
  images, noise = random_images(2, 3, 4, 1), random_images(2, 3, 4, 1, seed=1) - 0.5
  with jax.enable_x64(True):
    found = np.asarray(add_noise(jnp.asarray(images), jnp.asarray(noise), 4.0))
  np.testing.assert_allclose(found, images + 4 * noise, rtol=0, atol=1e-15)
  assert found.min() < 0


def test_to_float_divides_bytes_and_leaves_floats():
  bytes_ = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
  found = to_float(jnp.asarray(bytes_))
  assert found.dtype == jnp.float32
  np.testing.assert_allclose(found, bytes_ / 255, rtol=1e-6)
  assert float(found.max()) == 1.0
  floats = jnp.asarray(random_images(1, 4, 4, 1, dtype=np.float32))
  np.testing.assert_array_equal(to_float(floats), floats)
  assert to_float(floats).dtype == jnp.float32


# Recipes. Random numbers take seconds to compile, so the tests share one shape of images.

EXAMPLES, HEIGHT, WIDTH = 250, 31, 21


@pytest.fixture(scope="module")
def examples():
  index = np.random.default_rng(5).permutation(1000)[:EXAMPLES].astype(np.int32)
  return random_images(EXAMPLES, HEIGHT, WIDTH, 3, dtype=np.float32), index


def test_a_view_does_not_depend_on_the_place_in_the_batch(examples):
  images, index = examples
  order = np.random.default_rng(1).permutation(EXAMPLES)
  key = jax.random.key(3)
  views = np.asarray(JITTED(key, images, index))
  np.testing.assert_array_equal(JITTED(key, images[order], index[order]), views[order])


def test_a_view_does_not_depend_on_the_batch_size(examples):
  images, index = examples
  key = jax.random.key(3)
  views = np.asarray(JITTED(key, images, index))
  np.testing.assert_array_equal(JITTED(key, images[:5], index[:5]), views[:5])


def test_views_differ_between_keys_and_between_examples(examples):
  images, index = examples
  first, second = (np.asarray(JITTED(jax.random.key(k), images, index)) for k in (3, 4))
  assert (np.abs(first - second).max((1, 2, 3)) > 0.1).all()
  same_image = np.broadcast_to(images[:1], images.shape)
  views = np.asarray(JITTED(jax.random.key(3), same_image, index))
  assert (np.abs(views[1:] - views[:1]).max((1, 2, 3)) > 0.1).all()
  again = np.asarray(JITTED(jax.random.key(3), images, index))
  np.testing.assert_array_equal(again, first)


def test_views_are_the_same_under_jit(examples):
  images, index = examples
  key = jax.random.key(3)
  np.testing.assert_allclose(
    JITTED(key, images, index), EVERYTHING(key, images, index), rtol=0, atol=2e-5
  )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_views_have_the_type_of_the_images(dtype):
  with jax.enable_x64(True):
    images = jax.ShapeDtypeStruct((2, 6, 6, 1), dtype)
    views = jax.eval_shape(EVERYTHING, jax.random.key(0), images, jnp.arange(2))
  assert views.dtype == dtype
  assert views.shape == images.shape


def test_views_of_bytes_are_those_of_the_same_images_in_floats(examples):
  images, index = examples
  bytes_ = (images * 255).astype(np.uint8)
  views = EVERYTHING(jax.random.key(0), jnp.asarray(bytes_), index)
  assert views.dtype == jnp.float32
  floats = jnp.asarray(bytes_ / 255, jnp.float32)
  np.testing.assert_allclose(views, EVERYTHING(jax.random.key(0), floats, index), atol=1e-5)


@pytest.mark.parametrize("name", ["shift", "scale", "rotation", "intensity", "noise", "mirror"])
def test_a_negative_parameter_is_refused(name):
  with pytest.raises(
    UserError, match=f"affine_jitter: {name} must be (0 or more|between 0 and 1), not -0.1"
  ):
    affine_jitter(**{name: -0.1})


@pytest.mark.parametrize("name", ["intensity", "mirror"])
def test_an_intensity_or_a_probability_above_1_is_refused(name):
  with pytest.raises(UserError, match=f"affine_jitter: {name} must be between 0 and 1, not 1.1"):
    affine_jitter(**{name: 1.1})
  affine_jitter(**{name: 1.0})


DRAWS = 16 * EXAMPLES


@pytest.fixture(scope="module")
def drawn():
  """All the parameters of many views, each read from the pixels of one view.

  The channels of the image are 1, the row and the column, both from the center. Near its
  middle a view then says by which factor its pixels are multiplied and where they lay, and
  so the inverse of the affine map, up to a mirrored column.
  """
  rows, columns = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
  image = np.stack([np.ones((HEIGHT, WIDTH), np.float32), rows - 15, columns - 10], -1)
  images = np.broadcast_to(image, (EXAMPLES, *image.shape))
  index = np.arange(DRAWS, dtype=np.int32).reshape(16, EXAMPLES)
  middle = np.s_[:, 14:17, 9:12]
  views = np.concatenate([np.asarray(JITTED(jax.random.key(11), images, i))[middle] for i in index])
  factor = views[:, 1, 1, 0]
  places = (views[..., 1:] / views[..., :1]).astype(
    np.float64
  )  # [n, 3, 3, 2]: where each pixel lay
  inverse = np.stack(  # the derivative of that: [n, 2 of the source, 2 of the view]
    [(places[:, 2, 1] - places[:, 0, 1]) / 2, (places[:, 1, 2] - places[:, 1, 0]) / 2], -1
  )
  mirrored = np.linalg.det(inverse) < 0
  inverse[mirrored, 1] *= -1
  center = places[:, 1, 1] * np.where(mirrored, -1, 1)[:, None] ** np.array([0, 1])
  forward = np.linalg.inv(inverse)
  shift = -np.einsum("nij,nj->ni", forward, center)
  return {
    "down": shift[:, 0],
    "right": shift[:, 1],
    "log scale": np.log(np.linalg.det(forward)) / 2,
    "angle": np.arctan2(forward[:, 0, 1], forward[:, 0, 0]),
    "factor": factor - 1,
    "mirrored": mirrored.astype(float),
  }


REACH = {
  "down": LIMITS["shift"] * HEIGHT,
  "right": LIMITS["shift"] * WIDTH,
  "log scale": np.log(1 + LIMITS["scale"]),
  "angle": np.deg2rad(LIMITS["rotation"]),
  "factor": LIMITS["intensity"],
}


@pytest.mark.parametrize("name", REACH)
def test_a_parameter_is_uniform_over_its_range(drawn, name):
  u = drawn[name] / REACH[name]  # of the uniform distribution over [-1, 1]
  assert np.abs(u).max() < 1 + 5e-3
  assert u.min() < -0.99 and u.max() > 0.99
  assert abs(u.mean()) < 4 * np.sqrt(1 / 3 / DRAWS)
  assert abs((u**2).mean() - 1 / 3) < 4 * np.sqrt(4 / 45 / DRAWS)
  assert abs((u**4).mean() - 1 / 5) < 4 * np.sqrt(16 / 225 / DRAWS)


def test_views_are_mirrored_as_often_as_asked(drawn):
  assert abs(drawn["mirrored"].mean() - 0.3) < 4 * np.sqrt(0.3 * 0.7 / DRAWS)


def test_parameters_are_independent_of_each_other(drawn):
  correlation = np.corrcoef(np.stack(list(drawn.values())))
  off_diagonal = correlation[~np.eye(len(drawn), dtype=bool)]
  assert np.abs(off_diagonal).max() < 4.5 / np.sqrt(DRAWS)


@pytest.mark.parametrize("mirror", [0.0, 1.0])
def test_a_recipe_with_nothing_to_do_gives_the_images_or_their_mirror_images(examples, mirror):
  images, index = examples
  views = affine_jitter(**NOTHING, mirror=mirror)(jax.random.key(0), images, index)
  np.testing.assert_allclose(views, images[:, :, ::-1] if mirror else images, atol=1e-6)


def test_noise_is_normal_and_independent_between_pixels_examples_and_keys(examples):
  images, index = examples
  recipe = affine_jitter(**{**NOTHING, "noise": 0.2})
  views = np.stack([recipe(jax.random.key(k), images, index) for k in range(2)])
  noise = (views.astype(np.float64) - images) / 0.2  # [keys, examples, height, width, channels]
  count, deviation = noise.size, 1 / np.sqrt(noise.size)
  assert abs(noise.mean()) < 4 * deviation
  assert abs((noise**2).mean() - 1) < 4 * np.sqrt(2 / count)
  assert abs((noise**4).mean() - 3) < 4 * np.sqrt(96 / count)
  assert abs((noise[0] * noise[1]).mean()) < 4 * np.sqrt(2) * deviation
  for axis in (1, 2, 3, 4):  # neighbors: examples, rows, columns, channels
    assert abs((noise * np.roll(noise, 1, axis)).mean()) < 4 * deviation
