"""Color and blur: each operation against its definition in float64, and against Pillow."""

import colorsys
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from contrastax import views
from contrastax.core import UserError
from contrastax.views.color import JITTER_NUMBERS

N, SIZE = 12, 6
CORNERS = np.array(list(itertools.product((0.0, 0.5, 1.0), repeat=3)))  # grays, pure colors, ties


def random_images(seed=0):
  """Random images; the first holds black, white, grays, pure colors and ties of channels."""
  images = np.random.default_rng(seed).random((N, SIZE, SIZE, 3))
  images[0].reshape(-1, 3)[: len(CORNERS)] = CORNERS
  return images


def gray(image):
  return image @ np.array([0.299, 0.587, 0.114])


def brightness(image, factor):
  return np.clip(factor * image, 0, 1)


def contrast(image, factor):
  return np.clip(factor * image + (1 - factor) * gray(image).mean(), 0, 1)


def saturation(image, factor):
  return np.clip(factor * image + (1 - factor) * gray(image)[..., None], 0, 1)


def hue(image, shift):
  out = np.empty_like(image)
  for place in np.ndindex(image.shape[:2]):
    h, s, v = colorsys.rgb_to_hsv(*image[place])
    out[place] = colorsys.hsv_to_rgb((h + shift) % 1, s, v)
  return out


DEFINED = {"brightness": brightness, "contrast": contrast, "saturation": saturation, "hue": hue}
VALUES = {
  **dict.fromkeys(("brightness", "contrast", "saturation"), [0, 1, 0.2, 0.6, 0.999, 1.4, 1.8, 5]),
  "hue": [0, 0.5, -0.5, 0.2, -0.1, 1 / 3, 1e-3, -0.4],
}


def many(operation, images, *arguments):
  return np.stack([operation(*each) for each in zip(images, *arguments, strict=True)])


@pytest.mark.parametrize("name", DEFINED)
def test_an_adjustment_is_its_definition(float64, name):
  images = random_images()
  values = np.resize(np.array(VALUES[name]), N)
  expected = many(DEFINED[name], images, values)
  operation = jax.jit(getattr(views, f"adjust_{name}"))
  found = operation(images, values)
  assert found.dtype == jnp.float64
  np.testing.assert_allclose(found, expected, rtol=0, atol=1e-14)
  for value in VALUES[name]:  # the image of corners at each value
    found = operation(images, np.full(N, float(value)))[0]
    np.testing.assert_allclose(found, DEFINED[name](images[0], value), rtol=0, atol=1e-14)
  single = operation(images.astype(np.float32), values.astype(np.float32))
  assert single.dtype == jnp.float32
  np.testing.assert_allclose(single, expected, rtol=0, atol=4e-6)


ENHANCERS = {
  "brightness": ImageEnhance.Brightness,
  "contrast": ImageEnhance.Contrast,
  "saturation": ImageEnhance.Color,
}


@pytest.mark.parametrize("name", ENHANCERS)
def test_an_adjustment_is_pillows_within_a_level(name):
  """Pillow rounds the result, contrast's mean and the gray to whole levels of 255."""
  image = (random_images(1)[0] * 255).astype(np.uint8)
  for value in (0.0, 0.3, 1.0, 1.7):
    expected = np.asarray(ENHANCERS[name](Image.fromarray(image)).enhance(value)) / 255
    x = jnp.asarray(image[None] / 255, jnp.float32)
    found = getattr(views, f"adjust_{name}")(x, jnp.array([value]))[0]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1.6 / 255)


def test_factor_1_and_shift_0_change_nothing():
  images = random_images().astype(np.float32)
  one, zero = np.ones(N, np.float32), np.zeros(N, np.float32)
  for name in ("brightness", "contrast", "saturation"):
    np.testing.assert_array_equal(getattr(views, f"adjust_{name}")(images, one), images)
  np.testing.assert_allclose(views.adjust_hue(images, zero), images, rtol=0, atol=1e-6)


def test_a_third_of_the_color_circle_makes_red_green_and_greys_stay():
  x = np.array([[[[1, 0, 0], [0.2, 0.7, 0.2], [0.3, 0.3, 0.3]]]], np.float32)
  expected = [[[[0, 1, 0], [0.2, 0.2, 0.7], [0.3, 0.3, 0.3]]]]
  np.testing.assert_allclose(views.adjust_hue(x, np.array([1 / 3])), expected, atol=1e-6)


def test_contrast_of_a_large_image_keeps_its_mean_exact():
  image = np.random.default_rng(0).random((1, 224, 224, 3))
  found = views.adjust_contrast(image.astype(np.float32), np.zeros(1, np.float32))
  np.testing.assert_allclose(found, contrast(image[0], 0)[None], rtol=0, atol=2e-6)


def test_grey_is_pillows(float64):
  images = random_images()
  expected = np.repeat(np.stack([gray(image) for image in images])[..., None], 3, -1)
  np.testing.assert_allclose(views.to_gray(images), expected, rtol=0, atol=1e-15)
  bytes_ = (images * 255).astype(np.uint8)
  pillow = np.stack([np.asarray(Image.fromarray(image).convert("L")) for image in bytes_])
  found = views.to_gray(jnp.asarray(bytes_ / 255))[..., 0] * 255
  np.testing.assert_allclose(found, pillow, rtol=0, atol=0.501)
  np.testing.assert_array_equal(views.to_gray(images[..., :1]), images[..., :1])


def test_solarize_inverts_the_bright_and_is_pillows():
  levels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
  for threshold in (0, 100, 128, 255):
    expected = np.asarray(ImageOps.solarize(Image.fromarray(levels[0, ..., 0]), threshold))
    x = views.to_float(jnp.asarray(levels))
    found = np.asarray(views.solarize(x, x.reshape(-1)[threshold]))[0, ..., 0] * 255
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)
  four = np.array([0.25, 0.5, 0.75, 1.0]).reshape(1, 1, 4, 1)
  np.testing.assert_array_equal(views.solarize(four).reshape(4), [0.25, 0.5, 0.25, 0])
  np.testing.assert_array_equal(views.solarize(x), views.solarize(x, x.reshape(-1)[128]))


def test_normalize_subtracts_the_mean_and_divides_by_the_deviation(float64):
  images = random_images()
  expected = (images - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
  np.testing.assert_allclose(views.normalize(images), expected, rtol=0, atol=1e-14)
  found = views.normalize(images[..., :1], (0.25,), (0.5,))
  np.testing.assert_allclose(found, 2 * images[..., :1] - 0.5, rtol=0, atol=1e-14)


# The four in random order.

ORDERS = list(itertools.permutations(range(4)))
NAMES = tuple(DEFINED)


def draws(count, seed=3):
  """Arguments of jitter, strong enough that values are clipped in between: else some commute."""
  rng = np.random.default_rng(seed)
  drawn = {name: rng.uniform(1.3, 1.8, count) for name in NAMES[:3]}
  return {**drawn, "hue": rng.uniform(-0.5, 0.5, count)}


def in_order(image, order, arguments):
  for kind in order:
    image = DEFINED[NAMES[kind]](image, arguments[NAMES[kind]])
  return image


def test_jitter_applies_each_of_the_24_orders_to_its_own_image(float64):
  images = np.random.default_rng(0).random((24, SIZE, SIZE, 3))
  arguments = draws(24)
  each = [{name: values[i] for name, values in arguments.items()} for i in range(24)]
  expected = many(in_order, images, ORDERS, each)
  found = jax.jit(views.jitter)(images, order=np.array(ORDERS), **arguments)
  np.testing.assert_allclose(found, expected, rtol=0, atol=1e-13)
  single = {name: values.astype(np.float32) for name, values in arguments.items()}
  found = views.jitter(images.astype(np.float32), order=np.array(ORDERS), **single)
  assert found.dtype == jnp.float32
  # Where saturation is small, hue is a quotient of small differences: rounding shows there.
  np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_a_wrong_order_would_be_found_out():
  image = np.random.default_rng(0).random((SIZE, SIZE, 3))
  arguments = {name: values[0] for name, values in draws(1).items()}
  results = np.stack([in_order(image, order, arguments) for order in ORDERS])
  distance = np.abs(results[:, None] - results[None]).max((2, 3, 4)) + np.eye(24)
  assert distance.min() > 1e-3


def test_jitter_of_one_channel_has_two_orders(float64):
  images = np.random.default_rng(0).random((2, SIZE, SIZE, 1))
  values = {"brightness": np.array([1.7, 1.7]), "contrast": np.array([1.5, 1.5])}
  found = views.jitter(images, order=np.array([[0, 1], [1, 0]]), **values)

  def contrast_of_gray(image, factor):
    return np.clip(factor * image + (1 - factor) * image.mean(), 0, 1)

  expected = [
    contrast_of_gray(brightness(images[0], 1.7), 1.5),
    brightness(contrast_of_gray(images[1], 1.5), 1.7),
  ]
  np.testing.assert_allclose(found, expected, rtol=0, atol=1e-14)


DRAWS = 24_000


def sampled(probability, **colors):
  u = np.random.default_rng(2).random((DRAWS, JITTER_NUMBERS), np.float32)
  reach = {"brightness": 0.4, "contrast": 1.6, **colors}
  drawn = views.sample_jitter(u, probability=probability, **reach)
  return {name: np.asarray(values) for name, values in drawn.items()}


def test_jitter_is_uniform_in_each_range_and_every_order_is_as_likely():
  drawn = sampled(1.0, saturation=0.8, hue=0.1)
  order = drawn.pop("order")
  ranges = {
    "brightness": (0.6, 1.4),
    "contrast": (0.0, 2.6),
    "saturation": (0.2, 1.8),
    "hue": (-0.1, 0.1),
  }
  scaled = [(drawn[name] - low) / (high - low) for name, (low, high) in ranges.items()]
  for u in scaled:
    assert u.min() > -1e-6 and u.max() < 1 + 1e-6
    assert abs(u.mean() - 1 / 2) < 4.5 * np.sqrt(1 / 12 / DRAWS)
    assert abs((u**2).mean() - 1 / 3) < 4.5 * np.sqrt(4 / 45 / DRAWS)
  counts = np.array([(order == permutation).all(1).sum() for permutation in ORDERS])
  assert counts.sum() == DRAWS
  assert np.abs(counts - DRAWS / 24).max() < 4.5 * np.sqrt(DRAWS / 24)
  correlation = np.corrcoef(np.stack([*scaled, order[:, 0]])) - np.eye(5)
  assert np.abs(correlation).max() < 4.5 / np.sqrt(DRAWS)


def test_jitter_is_applied_as_often_as_asked():
  drawn = sampled(0.8, saturation=0.8, hue=0.1)
  untouched = drawn["brightness"] == 1
  assert abs(untouched.mean() - 0.2) < 4.5 * np.sqrt(0.16 / DRAWS)
  for name, nothing in (("contrast", 1), ("saturation", 1), ("hue", 0)):
    np.testing.assert_array_equal(drawn[name] == nothing, untouched)


def test_without_colors_there_are_brightness_and_contrast():
  drawn = sampled(1.0)
  assert set(drawn) == {"order", "brightness", "contrast"}
  assert abs((drawn["order"][:, 0] == 0).mean() - 0.5) < 4.5 * np.sqrt(0.25 / DRAWS)


@pytest.mark.parametrize("name", ["adjust_saturation", "adjust_hue"])
@pytest.mark.parametrize("channels", [1, 4])
def test_colors_need_three_channels(name, channels):
  with pytest.raises(UserError, match=f"{name} needs images of 3 channels .*, not {channels}"):
    getattr(views, name)(jnp.zeros((2, 3, 3, channels)), jnp.ones(2))


def test_grey_of_four_channels_is_refused():
  with pytest.raises(UserError, match="gray needs images of 3 channels .*, not 4"):
    views.to_gray(jnp.zeros((2, 3, 3, 4)))


# Blur.


def blur_by_loops(image, sigma, kernel):
  radius = kernel // 2
  weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
  weights /= weights.sum()
  height, width, _ = image.shape
  padded = np.pad(image, ((radius, radius), (radius, radius), (0, 0)), mode="reflect")
  out = np.zeros_like(image)
  for i, j in itertools.product(range(kernel), repeat=2):
    out += weights[i] * weights[j] * padded[i : i + height, j : j + width]
  return out


@pytest.mark.parametrize("kernel", [1, 3, 7, 13])
def test_blur_is_its_definition(float64, kernel):
  images = np.random.default_rng(0).random((6, 7, 9, 2))
  sigma = np.array([0.1, 0.3, 0.7, 1.0, 2.0, 30.0])
  expected = many(lambda image, s: blur_by_loops(image, s, kernel), images, sigma)
  operation = jax.jit(views.gaussian_blur, static_argnames="kernel")
  found = operation(images, sigma, kernel=kernel)
  np.testing.assert_allclose(found, expected, rtol=0, atol=1e-14)
  single = operation(images.astype(np.float32), sigma.astype(np.float32), kernel=kernel)
  assert single.dtype == jnp.float32
  np.testing.assert_allclose(single, expected, rtol=0, atol=1e-6)


def test_blur_without_width_gives_the_image_exactly():
  images = random_images().astype(np.float32)
  np.testing.assert_array_equal(
    views.gaussian_blur(images, np.zeros(N, np.float32), kernel=5), images
  )


@pytest.mark.parametrize("kernel", [0, -3, 4, 3.0])
def test_a_kernel_is_odd(kernel):
  with pytest.raises(UserError, match="gaussian_blur: kernel must be an odd number of pixels"):
    views.gaussian_blur(jnp.zeros((1, 8, 8, 1)), jnp.ones(1), kernel=kernel)


def test_a_kernel_fits_the_image():
  with pytest.raises(
    UserError,
    match="gaussian_blur: kernel 17 needs .* more than 8 .* not 8; use a kernel of at most 15",
  ):
    views.gaussian_blur(jnp.zeros((1, 8, 9, 1)), jnp.ones(1), kernel=17)
