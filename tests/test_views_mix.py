"""Mixup and CutMix: the mixing against its definition, partners and weights by distribution."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastax import views
from contrastax.core import UserError

N = 4000
KEY = jax.random.key(5)


def random_images(*shape):
  return np.random.default_rng(0).random(shape)


def test_blend_is_its_definition(float64):
  images, partner = random_images(4, 3, 5, 2), np.array([2, 0, 3, 3])
  weight = np.array([0.0, 1.0, 0.3, 0.9])
  expected = [w * x + (1 - w) * images[p] for x, p, w in zip(images, partner, weight, strict=True)]
  np.testing.assert_allclose(views.blend(images, partner, weight), expected, rtol=0, atol=1e-15)


def test_paste_puts_the_partners_box_in():
  images, partner = random_images(4, 6, 7, 2).astype(np.float32), np.array([1, 2, 3, 0])
  boxes = np.array([[0, 0, 6, 7], [2, 3, 1, 4], [5, 6, 1, 1], [3, 3, 0, 2]])
  top, left, height, width = boxes.T
  expected = images.copy()
  for i, (t, s, h, w) in enumerate(boxes):
    expected[i, t : t + h, s : s + w] = images[partner[i], t : t + h, s : s + w]
  found = views.paste(images, partner, top=top, left=left, height=height, width=width)
  np.testing.assert_array_equal(found, expected)


def test_partners_are_one_cycle_whatever_the_order_of_the_batch():
  index = np.random.default_rng(0).permutation(500)[:40].astype(np.int32)
  partner = np.asarray(views.sample_partner(KEY, index))
  place, seen = 0, []
  for _ in range(40):
    seen.append(place)
    place = partner[place]
  assert sorted(seen) == list(range(40)) and place == 0
  order = np.random.default_rng(1).permutation(40)
  moved = np.asarray(views.sample_partner(KEY, index[order]))
  whose = dict(zip(index, index[partner], strict=True))
  assert [whose[i] for i in index[order]] == list(index[order][moved])
  assert (np.asarray(views.sample_partner(jax.random.key(6), index)) != partner).any()


def test_every_other_example_is_as_likely_a_partner():
  keys = jax.random.split(KEY, 6000)
  partner = np.asarray(jax.vmap(lambda key: views.sample_partner(key, jnp.arange(4)))(keys))
  for i in range(4):
    counts = np.bincount(partner[:, i], minlength=4)
    assert counts[i] == 0
    others = np.delete(counts, i)
    assert np.abs(others - 2000).max() < 4.5 * np.sqrt(6000 * 2 / 9)


RECIPES = {"mixup": views.mixup, "cutmix": views.cutmix}


@pytest.fixture(scope="module", params=[("mixup", 0.3), ("mixup", 1.0), ("cutmix", 1.0)])
def mixed(request):
  """Images whose every pixel is the number of their example: mixing shows in the pixels."""
  name, alpha = request.param
  mix = jax.jit(RECIPES[name](alpha))
  images = jnp.broadcast_to(jnp.arange(N, dtype=jnp.float32)[:, None, None, None], (N, 10, 12, 1))
  return name, alpha, mix, images, mix(KEY, images, jnp.arange(N))


def test_the_weight_is_the_share_of_the_own_image(mixed):
  *_, images, found = mixed
  own, other = np.arange(N, dtype=np.float64), np.asarray(found.partner, np.float64)
  weight = np.asarray(found.weight, np.float64)
  share = np.asarray(found.images, np.float64).mean((1, 2, 3))
  np.testing.assert_allclose(share, weight * own + (1 - weight) * other, rtol=0, atol=1e-2)
  assert (weight >= 0).all() and (weight <= 1).all()
  assert found.images.dtype == images.dtype


def test_weights_have_the_moments_of_their_distribution(mixed):
  name, alpha, *_, found = mixed
  weight = np.asarray(found.weight, np.float64)
  rng = np.random.default_rng(0)
  lam = rng.beta(alpha, alpha, 200_000)
  expected = lam if name == "mixup" else np.array(kept_by_cutmix(rng, lam))
  if name == "mixup":
    assert abs(expected.var() - 1 / (4 * (2 * alpha + 1))) < 2e-3
  for power in (1, 2, 3):
    values = weight**power
    error = values.std() * np.sqrt(1 / N + 1 / len(lam))
    assert abs(values.mean() - (expected**power).mean()) < 4.5 * error


def kept_by_cutmix(rng, lam, height=10, width=12):
  """The paper's own box, drawn by NumPy: the share of pixels that stay."""
  cut = []
  for size in (height, width):
    side = np.floor(np.sqrt(1 - lam) * size).astype(int)
    center = rng.integers(0, size, len(lam))
    low, high = np.clip(center - side // 2, 0, size), np.clip(center + side // 2, 0, size)
    cut.append(high - low)
  return 1 - cut[0] * cut[1] / (height * width)


def test_a_weight_depends_on_the_example_only(mixed):
  *_, mix, images, found = mixed
  order = np.random.default_rng(1).permutation(N)
  moved = mix(KEY, images[order], jnp.arange(N)[order])
  np.testing.assert_array_equal(moved.weight, found.weight[order])
  np.testing.assert_array_equal(moved.images, found.images[order])


@pytest.mark.parametrize("name", RECIPES)
def test_wrong_input_is_refused(name):
  for alpha in (0.0, -1.0, float("nan")):
    with pytest.raises(UserError, match=f"{name}: alpha must be above 0, not {alpha}"):
      RECIPES[name](alpha)
  with pytest.raises(UserError, match=f"{name}: images must be floating point; found uint8"):
    RECIPES[name]()(KEY, jnp.zeros((2, 4, 4, 1), jnp.uint8), jnp.arange(2))
