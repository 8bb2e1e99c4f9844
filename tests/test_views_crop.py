"""Random resized crops: the resize against its definition and Pillow, boxes by their distribution."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from contrastax.views import resized_crop, sample_box
from contrastax.views.crop import BOX_NUMBERS

jitted = jax.jit(resized_crop, static_argnames="size")


def random_images(*shape, seed=0):
  return np.random.default_rng(seed).random(shape)


def resize_by_loops(line, size):
  """Pillow's resampling of a line of pixels [length, ...] with the triangle filter, in float64."""
  length = len(line)
  scale = length / size
  stretch = max(scale, 1.0)
  out = []
  for o in range(size):
    center = (o + 0.5) * scale
    first, last = max(0, int(center - stretch + 0.5)), min(length, int(center + stretch + 0.5))
    weights = [max(0.0, 1 - abs((p - center + 0.5) / stretch)) for p in range(first, last)]
    total = sum(w * line[p] for w, p in zip(weights, range(first, last), strict=True))
    out.append(total / sum(weights))
  return np.array(out)


def crop_by_loops(image, top, left, height, width, size, mirrored=False):
  box = image[top : top + height, left : left + width]
  view = resize_by_loops(resize_by_loops(box, size).swapaxes(0, 1), size).swapaxes(0, 1)
  return view[:, ::-1] if mirrored else view


def crop(images, boxes, size, mirrored=None):
  """`resized_crop` of boxes [n, 4]: top, left, height, width."""
  names = ("top", "left", "height", "width")
  columns = np.asarray(boxes, np.int32).T
  found = jitted(images, size=size, mirrored=mirrored, **dict(zip(names, columns, strict=True)))
  return np.asarray(found)


HEIGHT, WIDTH = 11, 14
BOXES = {
  "all": (0, 0, HEIGHT, WIDTH),
  "inside": (3, 4, 5, 6),
  "top left": (0, 0, 4, 7),
  "bottom right": (7, 9, 4, 5),
  "one pixel": (6, 2, 1, 1),
  "one row": (10, 0, 1, WIDTH),
  "one column": (0, 13, HEIGHT, 1),
  "square": (2, 2, 8, 8),
}


@pytest.mark.parametrize("size", [1, 5, 8, 23])
def test_a_crop_is_its_per_pixel_definition(float64, size):
  images = random_images(len(BOXES), HEIGHT, WIDTH, 3)
  boxes, mirrored = list(BOXES.values()), np.arange(len(BOXES)) % 2 == 1
  found = crop(images, boxes, size, mirrored)
  single = crop(images.astype(np.float32), boxes, size, mirrored)
  assert (found.dtype, single.dtype) == (np.float64, np.float32)
  for image, box, mirror, view, rough in zip(images, boxes, mirrored, found, single, strict=True):
    expected = crop_by_loops(image, *box, size, mirror)
    np.testing.assert_allclose(view, expected, rtol=0, atol=1e-14)
    np.testing.assert_allclose(rough, expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("box", BOXES)
@pytest.mark.parametrize("size", [6, 20])
def test_a_crop_is_pillows(box, size):
  image = random_images(HEIGHT, WIDTH, 1, seed=2).astype(np.float32)
  top, left, height, width = BOXES[box]
  inside = Image.fromarray(image[top : top + height, left : left + width, 0])
  expected = np.asarray(inside.resize((size, size), Image.Resampling.BILINEAR))
  found = crop(image[None], [BOXES[box]], size)[0, ..., 0]
  np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6)


def test_a_large_photograph_is_pillows_too():
  image = random_images(300, 400, 1, seed=3).astype(np.float32)
  box = (13, 57, 271, 333)
  inside = Image.fromarray(image[13:284, 57:390, 0])
  expected = np.asarray(inside.resize((96, 96), Image.Resampling.BILINEAR))
  np.testing.assert_allclose(crop(image[None], [box], 96)[0, ..., 0], expected, rtol=0, atol=5e-6)


def test_a_box_of_the_views_size_is_copied_exactly():
  images = random_images(2, HEIGHT, WIDTH, 3).astype(np.float32)
  found = crop(images, [(1, 3, 7, 7), (4, 7, 7, 7)], 7, np.array([False, True]))
  np.testing.assert_array_equal(found[0], images[0, 1:8, 3:10])
  np.testing.assert_array_equal(found[1], images[1, 4:11, 7:14][:, ::-1])


def test_nothing_outside_the_box_is_read():
  inside = np.zeros((HEIGHT, WIDTH), bool)
  inside[3:8, 4:10] = True
  image = np.where(inside[..., None], random_images(HEIGHT, WIDTH, 1), 1e6).astype(np.float32)
  assert crop(image[None], [(3, 4, 5, 6)], 9).max() <= 1


def test_a_crop_that_reads_outside_its_box_would_be_found_out():
  """`jax.image.scale_and_translate` of the whole image is what one would write first."""
  image = random_images(HEIGHT, WIDTH, 1).astype(np.float32)
  top, left, height, width = box = (3, 4, 5, 6)
  scale = jnp.array([9 / height, 9 / width])
  naive = jax.image.scale_and_translate(
    image, (9, 9, 1), (0, 1), scale, -scale * jnp.array([top, left]), "linear"
  )
  expected = crop_by_loops(image.astype(np.float64), *box, 9)
  difference = np.abs(np.asarray(naive) - expected)
  assert difference.max() > 0.1 and difference[2:-2, 2:-2].max() < 1e-5


# Boxes.

DRAWS = 20_000


def boxes(shape, area, ratio, seed=0):
  u = np.random.default_rng(seed).random((DRAWS, BOX_NUMBERS), np.float32)
  drawn = jax.jit(lambda u: sample_box(u, shape, area=area, ratio=ratio))(u)
  return {name: np.asarray(values) for name, values in drawn.items()}


def torchvisions_box(rng, rows, columns, area, ratio):
  """RandomResizedCrop's documented rule, by its own loop."""
  for _ in range(10):
    pixels = rows * columns * rng.uniform(*area)
    form = math.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1])))
    width, height = round(math.sqrt(pixels * form)), round(math.sqrt(pixels / form))
    if 0 < width <= columns and 0 < height <= rows:
      top, left = rng.integers(0, rows - height + 1), rng.integers(0, columns - width + 1)
      return top, left, height, width
  form = columns / rows
  width, height = columns, rows
  if form < ratio[0]:
    height = round(columns / ratio[0])
  elif form > ratio[1]:
    width = round(rows * ratio[1])
  return (rows - height) // 2, (columns - width) // 2, height, width


def same_means(ours, theirs):
  """Within 4.5 standard errors of their difference."""
  error = np.sqrt(ours.var() / len(ours) + theirs.var() / len(theirs))
  assert abs(ours.mean() - theirs.mean()) <= 4.5 * error + 1e-12


@pytest.mark.parametrize("shape", [(32, 32), (24, 40)], ids=str)
def test_boxes_are_distributed_as_torchvisions(shape):
  drawn = boxes(shape, (0.08, 1.0), (3 / 4, 4 / 3))
  rng = np.random.default_rng(1)
  theirs = np.array(
    [torchvisions_box(rng, *shape, (0.08, 1.0), (3 / 4, 4 / 3)) for _ in range(DRAWS)], float
  )
  ours = np.stack([drawn[name] for name in ("top", "left", "height", "width")], 1).astype(float)
  for i in range(4):
    same_means(ours[:, i], theirs[:, i])
    same_means(ours[:, i] ** 2, theirs[:, i] ** 2)
    for j in range(i):
      same_means(ours[:, i] * ours[:, j], theirs[:, i] * theirs[:, j])
  assert (ours[:, :2] >= 0).all() and (ours[:, 2:] >= 1).all()
  assert (ours[:, 0] + ours[:, 2] <= shape[0]).all()
  assert (ours[:, 1] + ours[:, 3] <= shape[1]).all()


def test_area_is_uniform_the_ratio_log_uniform_and_the_place_too():
  drawn = boxes((1000, 1000), (0.1, 0.3), (1 / 2, 2))
  height, width = drawn["height"].astype(float), drawn["width"].astype(float)
  measures = {
    "area": (height * width / 1e6 - 0.1) / 0.2,
    "ratio": (np.log(width / height) / math.log(2) + 1) / 2,
    "top": drawn["top"] / (1000 - height),
    "left": drawn["left"] / (1000 - width),
  }
  for u in measures.values():  # uniform over [0, 1]
    assert -0.01 < u.min() < 0.01 and 0.99 < u.max() < 1.01
    assert abs(u.mean() - 1 / 2) < 4.5 * np.sqrt(1 / 12 / DRAWS)
    assert abs((u**2).mean() - 1 / 3) < 4.5 * np.sqrt(4 / 45 / DRAWS)
  correlation = np.corrcoef(np.stack(list(measures.values()))) - np.eye(4)
  assert np.abs(correlation).max() < 4.5 / np.sqrt(DRAWS)


FALLBACKS = {
  "wide": ((4, 100), (0, 47, 4, 5)),
  "tall": ((90, 6), (41, 0, 8, 6)),
  "a row": ((1, 50), (0, 24, 1, 1)),
}


@pytest.mark.parametrize("name", FALLBACKS)
def test_where_no_box_fits_it_is_the_largest_central_one(name):
  shape, expected = FALLBACKS[name]
  drawn = boxes(shape, (0.9, 1.0), (3 / 4, 4 / 3))
  for side, value in zip(("top", "left", "height", "width"), expected, strict=True):
    np.testing.assert_array_equal(drawn[side], value)
  assert torchvisions_box(np.random.default_rng(0), *shape, (0.9, 1.0), (3 / 4, 4 / 3)) == expected


def test_a_random_number_next_to_1_keeps_the_box_inside():
  u = np.full((1, BOX_NUMBERS), np.nextafter(np.float32(1), np.float32(0)))
  drawn = sample_box(u, (1000, 700), area=(1e-4, 1e-4), ratio=(1.0, 1.0))
  assert [int(drawn[side][0]) for side in ("top", "left", "height", "width")] == [992, 692, 8, 8]


def test_the_whole_image_is_a_box():
  drawn = boxes((7, 7), (1.0, 1.0), (1.0, 1.0))
  for side, value in {"top": 0, "left": 0, "height": 7, "width": 7}.items():
    np.testing.assert_array_equal(drawn[side], value)
