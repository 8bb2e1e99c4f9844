"""Transfer to another data set, and fine-tuning with few of its labels."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn.datasets import load_digits

from contrastax.core import Encoder
from contrastax.encoders import mlp
from contrastax.evaluation import embed, fine_tune, knn, probes, transfer
from contrastax.evaluation.finetune import labeled
from contrastax.evaluation.transfer import fitted

DIGITS = load_digits()
IMAGES, LABELS = (DIGITS.images[..., None] / 16).astype(np.float32), DIGITS.target.astype(np.int32)
TRAIN = {"image": IMAGES[:1000], "label": LABELS[:1000]}
TEST = {"image": IMAGES[1000:], "label": LABELS[1000:]}


# Transfer.


def flat(shape):
  """An encoder, as `contrastax.load` gives one, that returns pixels."""

  class Flat:
    inputs = jax.ShapeDtypeStruct(shape, np.uint8)

    def __call__(self, images):
      assert images.shape[1:] == shape
      return np.asarray(images, np.float32).reshape(len(images), -1)

  return Flat()


def small(split, n):
  return {name: values[:n] for name, values in split.items()}


def test_transfer_is_the_probes_of_what_the_encoder_makes_of_the_other_set():
  train, test = small(TRAIN, 100), small(TEST, 100)
  row = transfer(flat((4, 4, 1)), train, test)
  ours, theirs = (fitted(split["image"], (4, 4, 1)).reshape(-1, 16) for split in (train, test))
  assert row == probes(ours, train["label"], theirs, test["label"])
  assert row["knn"] > 0.6


def test_images_of_another_shape_are_still_recognized():
  def accuracy(shape):
    ours, theirs = (fitted(x["image"], shape).reshape(len(x["image"]), -1) for x in (TRAIN, TEST))
    return knn(ours, TRAIN["label"], theirs, TEST["label"])

  same = accuracy((8, 8, 1))
  assert same > 0.9
  assert accuracy((16, 16, 3)) == pytest.approx(same, abs=0.02)


def test_images_of_the_right_shape_stay_as_they_are():
  images = np.zeros((3, 4, 5, 3), np.uint8)
  assert fitted(images, (4, 5, 3)) is images


def test_grey_is_repeated_and_color_becomes_its_luma():
  gray = np.array([[0, 255], [51, 102]], np.uint8)[None, ..., None]
  found = fitted(gray, (2, 2, 3))
  assert found.dtype == np.float32
  np.testing.assert_allclose(found, np.repeat(gray / 255, 3, -1), rtol=1e-6)
  np.testing.assert_allclose(fitted(found, (2, 2, 1)), gray / 255, rtol=1e-6)
  red, green, blue = np.eye(3, dtype=np.float32)[:, None, None]
  luma = [float(fitted(color[None], (1, 1, 1))[0, 0, 0, 0]) for color in (red, green, blue)]
  np.testing.assert_allclose(luma, [0.299, 0.587, 0.114], rtol=1e-6)


def test_resizing_keeps_flat_images_flat_and_ramps_ramps():
  constant = np.full((2, 8, 8, 1), 0.3, np.float32)
  np.testing.assert_allclose(fitted(constant, (5, 11, 1)), np.full((2, 5, 11, 1), 0.3), rtol=1e-5)
  ramp = np.broadcast_to(np.arange(8, dtype=np.float32)[:, None], (8, 8))[None, ..., None] / 8
  half = fitted(ramp, (4, 8, 1))[0, :, 0, 0]
  np.testing.assert_allclose(np.diff(half)[1:-1], [0.25], rtol=1e-4)  # inside; edges are smoothed
  np.testing.assert_allclose(half.mean(), ramp.mean(), rtol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 3, 7, 100])
def test_fitting_in_parts_changes_nothing(batch_size):
  expected = fitted(TRAIN["image"][:7], (5, 6, 3))
  found = fitted(TRAIN["image"][:7], (5, 6, 3), batch_size=batch_size)
  np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_transfer_says_what_it_cannot_do():
  with pytest.raises(ValueError, match="transfer needs image and label; the data set has image"):
    transfer(flat((8, 8, 1)), {"image": TRAIN["image"]}, TEST)
  with pytest.raises(ValueError, match="of 4 channels cannot be given to an encoder of 3"):
    fitted(np.zeros((1, 2, 2, 4), np.uint8), (2, 2, 3))


# The labels of a fraction.


def test_a_fraction_is_of_each_class_and_at_least_one():
  label = np.random.default_rng(0).permutation(np.repeat([0, 1, 7], [1000, 140, 3]))
  at = labeled(label, 0.05)
  np.testing.assert_array_equal(np.bincount(label[at])[[0, 1, 7]], [50, 7, 1])
  assert len(set(at)) == len(at)
  np.testing.assert_array_equal(at, labeled(label.copy(), 0.05))
  assert set(at) != set(labeled(label, 0.05, seed=1))
  np.testing.assert_array_equal(labeled(label, 1.0), np.arange(1143))


@pytest.mark.parametrize("fraction", [0, -0.1, 1.5, 10])
def test_a_fraction_is_a_share(fraction):
  with pytest.raises(ValueError, match=f"above 0 and at most 1, not {fraction}"):
    labeled(LABELS, fraction)


# Fine-tuning.

ENCODER = mlp((64,))
FRESH = ENCODER.init(jax.random.key(0), jnp.asarray(IMAGES[:2]))
RECIPE = {"steps": 60, "learning_rate": 0.1}


@pytest.fixture(scope="module")
def tuned():
  return {f: fine_tune(ENCODER, *FRESH, TRAIN, TEST, fraction=f, **RECIPE) for f in (0.01, 0.1, 1)}


def test_more_labels_give_more(tuned):
  assert 0.3 < tuned[0.01] < tuned[0.1] - 0.05
  assert 0.8 < tuned[0.1] < tuned[1]


def test_it_is_a_function_of_its_seed(tuned):
  again = fine_tune(ENCODER, *FRESH, TRAIN, TEST, fraction=0.1, **RECIPE)
  other = fine_tune(ENCODER, *FRESH, TRAIN, TEST, fraction=0.1, seed=1, **RECIPE)
  assert again == tuned[0.1] != other
  assert other == pytest.approx(tuned[0.1], abs=0.1)


def test_a_good_encoder_needs_fewer_labels(tuned):
  """One that has seen all labels, and forgotten the head."""
  source = {"image": TRAIN["image"], "label": TRAIN["label"]}
  params, state = supervised(source)
  found = fine_tune(ENCODER, params, state, TRAIN, TEST, fraction=0.01, **RECIPE)
  assert found > tuned[0.01] + 0.1


def supervised(split):
  params, state = FRESH
  params = {"encoder": params, "head": jnp.zeros((64, 10))}
  optimizer = optax.adam(3e-3)

  @jax.jit
  def step(params, state, opt_state):
    def objective(params):
      h, after = ENCODER.apply(params["encoder"], state, split["image"], train=True)
      logits = h @ params["head"]
      return optax.softmax_cross_entropy_with_integer_labels(logits, split["label"]).mean(), after

    grads, after = jax.grad(objective, has_aux=True)(params)
    updates, opt_state = optimizer.update(grads, opt_state)
    return optax.apply_updates(params, updates), after, opt_state

  opt_state = optimizer.init(params)
  for _ in range(100):
    params, state, opt_state = step(params, state, opt_state)
  return params["encoder"], state


def linear_encoder():
  """h = W x, with nothing else: what SGD does to it can be written down."""

  def init(key, x):
    raise NotImplementedError

  def apply(params, state, x, *, key=None, train):
    return x.reshape(len(x), -1) @ params, state

  return Encoder(init, apply)


def test_its_steps_are_nesterovs_on_encoder_and_head(float64):
  """Against a loop in NumPy with the gradients by hand, from the accuracy of a wide test set."""
  rng = np.random.default_rng(0)
  images, label = rng.random((12, 2, 2, 1)), np.arange(12) % 3
  test = rng.random((4000, 2, 2, 1))
  start = rng.normal(size=(4, 3))
  rate, steps = 0.5, 7
  w, head, bias = start.copy(), np.zeros((3, 3)), np.zeros(3)
  trace = [0 * w, 0 * head, 0 * bias]
  x, one_hot = images.reshape(12, 4), np.eye(3)[label]
  for t in range(steps):
    logits = x @ w @ head + bias
    residual = np.exp(logits) / np.exp(logits).sum(1, keepdims=True) - one_hot
    residual /= 12
    grads = [x.T @ residual @ head.T, (x @ w).T @ residual, residual.sum(0)]
    trace = [g + 0.9 * m for g, m in zip(grads, trace, strict=True)]
    lr = rate * (1 + np.cos(np.pi * t / steps)) / 2
    w, head, bias = (
      p - lr * (g + 0.9 * m) for p, g, m in zip((w, head, bias), grads, trace, strict=True)
    )
  predicted = (test.reshape(-1, 4) @ w @ head + bias).argmax(1)
  found = fine_tune(
    linear_encoder(), jnp.asarray(start), {}, {"image": images, "label": label},
    {"image": test, "label": predicted}, fraction=1, steps=steps, batch_size=12, learning_rate=rate,
  )  # fmt: skip
  assert found > 0.999
  assert len(set(predicted)) == 3


def test_labels_may_be_any_numbers_and_views_are_applied():
  seen = []

  def views(key, images, index):
    seen.append((images.shape, index.shape))
    return jnp.flip(images, 2)  # of training images alone: the test images are not mirrored

  plain = {"fraction": 0.1, **RECIPE}
  numbers = {"image": TRAIN["image"], "label": 10 * TRAIN["label"] + 5}
  of_test = {"image": TEST["image"], "label": 10 * TEST["label"] + 5}
  found = fine_tune(ENCODER, *FRESH, numbers, of_test, **plain)
  assert found == fine_tune(ENCODER, *FRESH, TRAIN, TEST, **plain)
  mirrored = fine_tune(ENCODER, *FRESH, TRAIN, TEST, views=views, **plain)
  assert seen == [((64, 8, 8, 1), (64,))]  # one program for all steps
  assert mirrored < found - 0.1


def test_what_is_given_is_left_as_it_was():
  before = jax.tree.map(np.array, FRESH)
  fine_tune(ENCODER, *FRESH, small(TRAIN, 64), TEST, fraction=1, steps=2)
  jax.tree.map(np.testing.assert_array_equal, before, FRESH)
  assert embed(ENCODER, *FRESH, TEST["image"]).shape == (797, 64)


def test_no_steps_are_refused():
  with pytest.raises(ValueError, match="steps must be at least 1, not 0"):
    fine_tune(ENCODER, *FRESH, TRAIN, TEST, fraction=0.1, steps=0)
