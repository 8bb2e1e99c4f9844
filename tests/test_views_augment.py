"""The augmentation recipes: rates and ranges read from pixels, determinism, errors."""

import dataclasses
import pathlib
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import processes
import pytest

from contrastax import core, parts, views
from contrastax.core import UserError, named
from contrastax.views import augment

EVERYTHING = augment(
  size=12,
  brightness=0.8,
  contrast=0.8,
  saturation=0.8,
  hue=0.2,
  gray=0.2,
  blur=0.5,
  solarize=0.2,
  kernel=5,
)
JITTED = jax.jit(EVERYTHING)
N = 64
KEY = jax.random.key(7)


@pytest.fixture(scope="module")
def examples():
  rng = np.random.default_rng(0)
  index = rng.permutation(1000)[:N].astype(np.int32)
  return rng.random((N, 16, 20, 3)).astype(np.float32), index


def test_a_view_depends_on_key_image_and_index_only(examples):
  images, index = examples
  full = np.asarray(JITTED(KEY, images, index))
  assert full.shape == (N, 12, 12, 3) and full.dtype == np.float32
  assert full.min() >= 0 and full.max() <= 1
  order = np.random.default_rng(1).permutation(N)
  np.testing.assert_array_equal(JITTED(KEY, images[order], index[order]), full[order])
  np.testing.assert_allclose(JITTED(KEY, images[:5], index[:5]), full[:5], rtol=0, atol=1e-6)
  np.testing.assert_array_equal(JITTED(KEY, images, index), full)
  other_key = np.asarray(JITTED(jax.random.key(8), images, index))
  other_index = np.asarray(JITTED(KEY, images, index + 1000))
  for other in (other_key, other_index):
    assert (np.abs(full - other).max((1, 2, 3)) > 0.01).all()


ON_EIGHT_DEVICES = """
import jax, numpy as np
from contrastax import training, views
mesh = training.make_mesh()
assert mesh.size == 8
images = np.random.default_rng(0).random((16, 16, 20, 3), np.float32)
index = np.arange(16, dtype=np.int32)[::-1] * 7
recipe = jax.jit(views.byol(12)[1])
alone = recipe(jax.random.key(0), images, index)
placed = jax.device_put((images, index), training.sharded(mesh))
divided = recipe(jax.random.key(0), *placed)
assert len(divided.sharding.device_set) == 8
np.testing.assert_allclose(divided, alone, rtol=0, atol=1e-5)
"""


@pytest.mark.full
def test_a_view_does_not_depend_on_the_devices():
  command = [sys.executable, "-c", ON_EIGHT_DEVICES]
  given = processes.environment(float64=False)
  done = subprocess.run(command, env=given, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr


def test_views_are_compiled_once(examples):
  images, index = examples
  JITTED(KEY, images, index)
  compiled = JITTED._cache_size()
  for seed in range(3):
    JITTED(jax.random.key(seed), 1 - images, index + seed)
  assert JITTED._cache_size() == compiled


def test_parameters_do_not_depend_on_the_type_of_the_images(examples):
  """Bytes, halves and doubles of the same images have the same views, to their rounding."""
  images, index = examples
  bytes_ = (images * 255).astype(np.uint8)
  plain = jax.jit(augment(size=12, brightness=0.4, contrast=0.4))  # hue magnifies rounding
  expected = np.asarray(plain(KEY, bytes_, index))
  assert expected.dtype == np.float32
  half = plain(KEY, jnp.asarray(bytes_ / 255, jnp.bfloat16), index)
  assert half.dtype == jnp.bfloat16
  np.testing.assert_allclose(half.astype(np.float32), expected, rtol=0, atol=0.02)
  with jax.enable_x64(True):
    double = plain(KEY, jnp.asarray(bytes_ / 255), index)
  assert double.dtype == jnp.float64
  np.testing.assert_allclose(double, expected, rtol=0, atol=2e-6)


DRAWS = 20_000


def probe():
  """An image of which a view tells what was done to it.

  The crop takes all of it. Below the middle it is white: black there is solarized. Above it is
  dark, with red rising to the right (mirrored?), no green (gray?) and blue in stripes (blurred?).
  """
  image = np.ones((16, 16, 3))
  image[:10, :, 0] = np.linspace(0.05, 0.35, 16)
  image[:10, :, 1] = 0
  image[:10, :, 2] = 0.4 * (np.arange(10) % 2)[:, None]
  return image.astype(np.float32)


@pytest.fixture(scope="module")
def told():
  recipe = augment(
    size=16,
    area=(1.0, 1.0),
    ratio=(1.0, 1.0),
    flip=0.3,
    gray=0.25,
    blur=0.4,
    sigma=(0.5, 1.5),
    solarize=0.2,
    kernel=3,
  )
  images = jnp.broadcast_to(probe(), (DRAWS, 16, 16, 3))
  x = np.asarray(jax.jit(recipe)(KEY, images, jnp.arange(DRAWS)), np.float64)
  gray = np.abs(x[..., 0] - x[..., 1]).max((1, 2)) < 1e-6
  stripes = np.abs(x[:, 5, 8, 2] - x[:, 4, 8, 2]) / 0.4 / np.where(gray, 0.114, 1)
  return {
    "flip": x[:, 2, 2, 0] > x[:, 2, 13, 0],
    "gray": gray,
    "blur": stripes < 0.99,
    "solarize": x[:, 15, 8, 0] < 0.5,
  }, stripes


def test_each_operation_happens_as_often_as_asked_and_independently(told):
  happened, _ = told
  for name, rate in {"flip": 0.3, "gray": 0.25, "blur": 0.4, "solarize": 0.2}.items():
    deviation = np.sqrt(rate * (1 - rate) / DRAWS)
    assert abs(happened[name].mean() - rate) < 4.5 * deviation, name
  correlation = np.corrcoef(np.stack(list(happened.values()))) - np.eye(4)
  assert np.abs(correlation).max() < 4.5 / np.sqrt(DRAWS)


def test_the_width_of_the_blur_is_uniform(told):
  """Stripes keep (1 − 2e) / (1 + 2e) of their contrast, e = exp(−1 / 2σ²), in a kernel of 3."""
  happened, stripes = told
  # Its sign is lost: beyond e = 1/2 stripes are exchanged.
  kept = stripes[happened["blur"]]
  sigma = np.random.default_rng(0).uniform(0.5, 1.5, 400_000)
  e = np.exp(-0.5 / sigma**2)
  expected = np.abs((1 - 2 * e) / (1 + 2 * e))
  error = expected.std() / np.sqrt(len(kept))
  assert abs(kept.mean() - expected.mean()) < 4.5 * error
  error = (expected**2).std() / np.sqrt(len(kept))
  assert abs((kept**2).mean() - (expected**2).mean()) < 4.5 * error
  assert kept.max() <= expected.max() + 1e-4


def test_the_blur_of_simclr_is_cut_at_a_tenth_of_the_side():
  for size, radius in ((224, 11), (32, 1)):
    image = np.zeros((1, size, size, 1), np.float32)
    image[:, size // 2, size // 2] = 1
    whole = {"area": (1.0, 1.0), "ratio": (1.0, 1.0), "flip": 0.0, "channels": 1}
    recipe = jax.jit(augment(size=size, **whole, blur=1.0, sigma=(9.0, 9.0)))
    rows = np.flatnonzero(np.asarray(recipe(KEY, image, np.zeros(1, np.int32)))[0].max((1, 2)))
    assert (rows.min(), rows.max()) == (size // 2 - radius, size // 2 + radius)


def test_greys_normalized_have_the_crops_of_the_plain_views(examples):
  """What a recipe has besides the crop does not move the crop."""
  images, index = examples
  plain = augment(size=12)
  more = dataclasses.replace(plain, gray=1.0, mean=views.IMAGENET_MEAN, std=views.IMAGENET_STD)
  expected = views.normalize(views.to_gray(jax.jit(plain)(KEY, images, index)))
  np.testing.assert_allclose(jax.jit(more)(KEY, images, index), expected, rtol=0, atol=1e-5)


def test_an_image_smaller_than_the_view_is_enlarged():
  images = np.random.default_rng(0).random((2, 5, 1, 3)).astype(np.float32)
  found = jax.jit(views.moco_v2(24))(KEY, images, jnp.arange(2))
  assert found.shape == (2, 24, 24, 3)
  assert np.min(found) >= 0 and np.max(found) <= 1


# Papers.


def shapes(recipes, channels=3):
  images = jax.ShapeDtypeStruct((2, 40, 40, channels), jnp.uint8)
  drawn = jax.eval_shape(
    lambda key, x, index: views.draw_views(recipes, key, x, index), KEY, images, jnp.arange(2)
  )
  return [view.shape for view in drawn]


def test_papers_have_their_views():
  assert shapes((views.simclr(32),) * 3) == [(2, 32, 32, 3)] * 3
  assert shapes(views.byol(32)) == [(2, 32, 32, 3)] * 2
  assert shapes(views.multi_crop((32, 12))) == [(2, 32, 32, 3)] * 2 + [(2, 12, 12, 3)] * 6
  assert shapes((views.gray(28),), 1) == [(2, 28, 28, 1)]


# From the papers' own tables: area, the four jitters, gray, blur, solarize, and the blur's kernel.
TABLE = {
  "simclr": (views.simclr(224), (0.08, 1), (0.8, 0.8, 0.8, 0.2), 0.2, 0.5, 0, None),
  "cifar": (
    views.simclr(32, strength=0.5, blur=0.0), (0.08, 1), (0.4, 0.4, 0.4, 0.1), 0.2, 0, 0, None
  ),
  "moco_v2": (views.moco_v2(224), (0.2, 1), (0.4, 0.4, 0.4, 0.1), 0.2, 0.5, 0, 17),
  "byol 1": (views.byol(224)[0], (0.08, 1), (0.4, 0.4, 0.2, 0.1), 0.2, 1, 0, None),
  "byol 2": (views.byol(224)[1], (0.08, 1), (0.4, 0.4, 0.2, 0.1), 0.2, 0.1, 0.2, None),
  "swav 1": (views.multi_crop()[0], (0.14, 1), (0.8, 0.8, 0.8, 0.2), 0.2, 0.5, 0, 17),
  "swav 8": (views.multi_crop()[7], (0.05, 0.14), (0.8, 0.8, 0.8, 0.2), 0.2, 0.5, 0, 17),
}  # fmt: skip


@pytest.mark.parametrize("paper", TABLE)
def test_papers_have_their_settings(paper):
  r, *expected = TABLE[paper]
  jitters = pytest.approx((r.brightness, r.contrast, r.saturation, r.hue))
  assert expected == [r.area, jitters, r.gray, r.blur, r.solarize, r.kernel]
  assert (r.ratio, r.flip, r.jitter, r.sigma) == ((3 / 4, 4 / 3), 0.5, 0.8, (0.1, 2.0))


def test_view_v_is_that_of_its_recipe_and_key(examples):
  images, index = examples
  x, y = views.draw_views((JITTED, JITTED), KEY, images, index)
  assert (np.abs(x - y).max((1, 2, 3)) > 0.01).all()
  again = JITTED(named(KEY, "view 1"), images, index)
  np.testing.assert_array_equal(y, again)


@pytest.mark.parametrize(
  "spec",
  [
    {"name": "simclr", "size": 32, "strength": 0.5, "blur": 0.0},
    {"name": "moco_v2", "size": 32},
    {"name": "gray", "size": 28, "flip": 0.0},
    {"name": "augment", "size": 28, "area": [0.5, 1.0]},
    {"name": "byol", "size": 32},
    {"name": "multi_crop", "sizes": [32, 16], "counts": [2, 2]},
    {"name": "mixup", "alpha": 0.5},
  ],
  ids=lambda spec: spec["name"],
)
def test_a_config_names_a_recipe_and_recipes_are_hashable(spec):
  one, other = (parts.assemble(core.Recipe, spec, "views") for _ in range(2))
  assert one == other and hash(one) == hash(other)


WRONG = {
  "size": ({"size": 0}, "size must be a number of pixels, 1 or more, not 0"),
  "size in halves": ({"size": 31.5}, "size must be a number of pixels, 1 or more, not 31.5"),
  "area": ({"area": (0.0, 1.0)}, r"area must be \(low, high\) .*, not \(0.0, 1.0\)"),
  "area above": ({"area": (0.5, 1.5)}, r"area must be \(low, high\)"),
  "a list": ({"area": [0.5, 1.0]}, r"area must be a tuple, not \[0.5, 1.0\]"),
  "area reversed": ({"area": (0.5, 0.2)}, r"area must be \(low, high\)"),
  "ratio": ({"ratio": (4 / 3, 3 / 4)}, r"ratio must be \(low, high\)"),
  "flip": ({"flip": 1.5}, "flip must be between 0 and 1, not 1.5"),
  "gray": ({"gray": -0.1}, "gray must be between 0 and 1, not -0.1"),
  "hue": ({"hue": 0.6}, "hue must be between 0 and 0.5, not 0.6"),
  "brightness": ({"brightness": -1.0}, "brightness must be 0 or more, not -1.0"),
  "nan": ({"contrast": float("nan")}, "contrast must be 0 or more, not nan"),
  "sigma": ({"sigma": (2.0, 0.1)}, r"sigma must be \(low, high\) .*, not \(2.0, 0.1\)"),
  "kernel": ({"kernel": 4}, "kernel must be an odd number of pixels, 1 or more, not 4"),
  "kernel too large": ({"kernel": 99}, "kernel 99 needs images of more than 49 pixels per side"),
  "mean alone": ({"mean": (0.5, 0.5, 0.5)}, "mean and std must have 3 numbers each, not mean"),
  "std alone": ({"std": (0.5, 0.5, 0.5)}, "mean and std must have 3 numbers each, not mean"),
  "channels": ({"channels": 0}, "channels must be an integer, 1 or more, not 0"),
  "hue of gray": (
    {"channels": 1, "hue": 0.1},
    r"hue needs 3 channels \(red, green, blue\), so it must be 0 for channels=1, not 0.1",
  ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_setting_without_meaning_is_refused(name):
  settings, message = WRONG[name]
  with pytest.raises(UserError, match=f"augment: {message}") as raised:
    augment(**{"size": 16, **settings})
  assert "\n" not in str(raised.value)


WRONG_IMAGES = {
  "gray for color": (
    views.simclr(8), (2, 9, 9, 1), "float32",
    "must have 3 channels; found 1: use a recipe with channels=1"
  ),
  "color for gray": (
    views.gray(8), (2, 9, 9, 3), "float32",
    "must have 1 channel; found 3: use a recipe with channels=3"
  ),
  "integers": (
    views.simclr(8), (2, 9, 9, 3), "int32", r"must be uint8, or float in \[0, 1\]; found int32: pass"
  ),
  "empty": (views.simclr(8), (2, 0, 9, 3), "float32", r"must not be empty; found shape \[2, 0, 9, 3\]"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG_IMAGES)
def test_images_without_meaning_are_refused(name):
  recipe, shape, dtype, message = WRONG_IMAGES[name]
  with pytest.raises(UserError, match=f"augment: images {message}"):
    recipe(KEY, jnp.zeros(shape, dtype), jnp.arange(2))


def test_one_recipe_stands_for_two_views(examples):
  images, index = examples
  both = views.draw_views(JITTED, KEY, images, index)
  np.testing.assert_array_equal(both, views.draw_views((JITTED, JITTED), KEY, images, index))


def test_no_recipe_is_refused_and_groups_agree():
  for wrong in ((), None, 3, ("simclr",)):
    with pytest.raises(
      UserError, match="draw_views: recipes must be a recipe or a tuple of one per v"
    ):
      views.draw_views(wrong, KEY, jnp.zeros((2, 8, 8, 3)), jnp.arange(2))
  with pytest.raises(
    UserError, match="multi_crop: sizes, counts and areas must have equal lengths"
  ):
    views.multi_crop((32, 16, 8))


@pytest.mark.full
def test_the_code_of_the_page_on_views_runs():
  page = pathlib.Path(__file__).parent.parent / "docs" / "views.md"
  names = {}
  for block in re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
    exec(compile(block, page.name, "exec"), names)
  assert names["mixed"].shape == names["view"].shape == (4, 32, 32, 3)


def test_without_a_size_a_view_has_the_shorter_side_of_the_images():
  images = np.random.default_rng(0).integers(0, 256, (3, 20, 24, 3), np.uint8)
  index = np.arange(3)
  drawn = [views.simclr(size)(jax.random.key(0), images, index) for size in (None, 20)]
  assert drawn[0].shape == (3, 20, 20, 3)
  np.testing.assert_array_equal(*drawn)
