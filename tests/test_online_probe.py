"""The online probe: it learns what can be read off the features, and moves nothing else."""

import functools

import all_methods
import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from contrastax import encoders, methods, training
from contrastax.core import UserError
from contrastax.evaluation import online_probe, with_online_probe

KEY = jax.random.key(0)


def digits(n):
  data = load_digits()
  return data.images[:n, ..., None].astype(np.float32) / 16, data.target[:n].astype(np.int32)


def batch_of(images, labels):
  index = np.arange(len(images), dtype=np.int32)
  return {"image": jnp.asarray(images), "label": jnp.asarray(labels), "index": index}


BATCH = batch_of(*digits(32))
ALONE = methods.SimCLR(
  encoder=encoders.mlp((16,)),
  projection=encoders.projection((16,), 8),
  views=all_methods.noise,
)
BOTH = with_online_probe(ALONE, online_probe(10))


# The probe alone.


@functools.cache
def compiled(probe):
  return jax.jit(probe.step)


@jax.jit
def all_steps(state, features, labels):
  return jax.lax.scan(
    lambda state, batch: online_probe(10).step(state, *batch), state, (features, labels)
  )


def run(features, labels, epochs=20, batch=64, scale=1.0):
  orders = [np.random.default_rng(epoch).permutation(len(features)) for epoch in range(epochs)]
  batches = np.stack([order[: len(order) // batch * batch] for order in orders]).reshape(-1, batch)
  state = online_probe(10).init(features.shape[1])
  state, metrics = all_steps(state, scale * features[batches], labels[batches])
  return state, np.asarray(metrics["online_accuracy"])


def test_it_comes_near_a_linear_classifiers_accuracy():
  images, labels = digits(1280)
  features = images.reshape(1280, 64)
  _, accuracy = run(features, labels)
  best = LogisticRegression(max_iter=1000).fit(features, labels).score(features, labels)
  assert accuracy[0] < 0.3
  assert accuracy[-20:].mean() > best - 0.03


def test_it_serves_features_of_any_scale():
  images, labels = digits(640)
  features = images.reshape(640, 64)
  _, expected = run(features, labels, epochs=3)
  for scale in (1e-6, 1e6):
    _, found = run(features, labels, epochs=3, scale=scale)
    np.testing.assert_allclose(found, expected, atol=2 / 64)


def test_it_reports_accuracy_before_the_step():
  probe = online_probe(3)
  step, features, labels = compiled(probe), np.eye(2, dtype=np.float32), np.array([0, 1])
  state, first = step(probe.init(2), features, labels)
  assert first["online_accuracy"] == 0.5  # of equal logits the first class is taken
  _, second = step(state, features, labels)
  assert second["online_accuracy"] == 1


def test_its_step_is_adam_on_the_cross_entropy_of_standardized_features(float64):
  rng = np.random.default_rng(0)
  features, labels = rng.normal(size=(8, 3)) * 5 + 1, rng.integers(0, 4, 8)
  probe = online_probe(4, learning_rate=0.1)
  state, _ = compiled(probe)(probe.init(3), features, labels)
  z = (features - features.mean(0)) / np.sqrt(features.var(0) + 1e-6 * features.var(0).max())
  residual = 0.25 - np.eye(4)[labels]  # the softmax of zeros, less the label
  for name, gradient in {"kernel": z.T @ residual / 8, "bias": residual.mean(0)}.items():
    expected = -0.1 * gradient / (np.abs(gradient) + 1e-8)  # Adam's first step
    np.testing.assert_allclose(state["params"][name], expected, rtol=1e-6, atol=1e-9)


def test_features_that_do_not_move_do_no_harm():
  probe, labels = online_probe(3), np.arange(6) % 3
  step, still = compiled(probe), np.ones((6, 4), np.float32)
  moving = still.copy()
  moving[:, 0] = np.arange(6)
  for features in (moving, still, 0 * still):
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(step(probe.init(4), features, labels)))


def test_no_gradient_reaches_the_features():
  probe = online_probe(3)
  state = probe.init(4)

  def through(features):
    state_after, metrics = probe.step(state, features, jnp.arange(6) % 3)
    return sum(leaf.sum() for leaf in jax.tree.leaves(state_after["params"])) + sum(
      metrics.values()
    )

  gradient = jax.jit(jax.grad(through))(jax.random.normal(KEY, (6, 4)))
  np.testing.assert_array_equal(gradient, np.zeros((6, 4)))


# Labels: −1 is none, and other numbers are out of range.

RNG = np.random.default_rng(0)
FEATURES, CLASS = RNG.normal(size=(8, 3)).astype(np.float32), np.arange(8) % 4


def test_examples_without_a_label_count_neither_in_the_loss_nor_in_the_accuracy():
  """As of the labeled alone, where they have the batch's mean and deviation."""
  twice, label = np.repeat(FEATURES, 2, 0), np.stack([CLASS, np.full(8, -1)], 1).ravel()
  probe = online_probe(4, learning_rate=0.1)
  ours = theirs = probe.init(3)
  for step in (probe.step, compiled(probe)):
    ours, seen = step(ours, twice, label)
    theirs, expected = step(theirs, FEATURES, CLASS)
    chex.assert_trees_all_close((ours, seen), (theirs, expected), rtol=1e-5, atol=1e-7)


def test_a_batch_without_labels_changes_nothing():
  probe = online_probe(4)
  state, _ = probe.step(probe.init(3), FEATURES, CLASS)  # Adam has a momentum then
  for step in (probe.step, compiled(probe)):
    after, seen = step(state, FEATURES, np.full(8, -1))
    chex.assert_trees_all_equal(after, state)
    assert seen["online_accuracy"] == 0


@pytest.mark.parametrize(
  "wrong",
  [np.array([4] * 8), np.array([0] * 7 + [-2]), np.uint8([255] * 8), np.uint32([2**32 - 1] * 8)],
  ids=["classes", "-2", "uint8", "uint32"],
)
def test_a_label_out_of_range_is_an_error_where_known_and_nan_where_traced(wrong):
  probe = online_probe(4)
  with pytest.raises(UserError, match="has the label .* 4 classes takes 0 … 3"):
    probe.step(probe.init(3), FEATURES, wrong)
  state, seen = compiled(probe)(probe.init(3), FEATURES, wrong)
  assert np.isnan(seen["online_accuracy"]) and np.isnan(state["params"]["kernel"]).all()


def test_known_labels_are_not_cut_to_32_bits():
  with pytest.raises(UserError, match=f"row 2 has the label {2**40}"):
    online_probe(4).step(online_probe(4).init(3), FEATURES, np.where(np.arange(8) == 2, 2**40, 0))


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int64, np.uint64])
def test_the_type_of_labels_and_features_does_not_matter(dtype):
  probe, whole = online_probe(300), np.round(4 * FEATURES)  # more classes than int8 has numbers
  for step in (probe.step, compiled(probe)):
    expected = step(probe.init(3), whole, CLASS)
    for features in (whole.astype(np.int8), whole.astype(jnp.bfloat16)):
      chex.assert_trees_all_close(step(probe.init(3), features, CLASS.astype(dtype)), expected)


def test_bools_are_the_classes_0_and_1():
  probe = online_probe(2)
  for step in (probe.step, compiled(probe)):
    found, expected = (step(probe.init(3), FEATURES, (CLASS > 1).astype(t)) for t in (bool, int))
    chex.assert_trees_all_equal(found, expected)


@pytest.mark.parametrize(
  "label, expected",
  [
    (CLASS[:, None], r"label must be \[8\], one for each example, not \[8, 1\]"),
    (np.eye(4, dtype=int)[CLASS], r"not \[8, 4\]"),
    (CLASS[:5], r"not \[5\]"),
    (CLASS * 1.0, "label must be integers or bools, not float"),
  ],
)
def test_labels_of_another_shape_or_type_are_refused_known_or_traced(label, expected):
  probe = online_probe(4)
  for step in (probe.step, compiled(probe)):
    with pytest.raises(UserError, match=expected):
      step(probe.init(3), FEATURES, label)


def test_string_labels_and_other_dimensions_are_refused():
  probe = online_probe(4)
  with pytest.raises(UserError, match="label must be integers or bools, not <U"):
    probe.step(probe.init(3), FEATURES, CLASS.astype(str))
  with pytest.raises(UserError, match="of 5 dimensions cannot take features of 3"):
    probe.step(probe.init(5), FEATURES, CLASS)


def test_features_that_are_not_finite_are_an_error_where_known_and_nan_where_traced():
  probe, features = online_probe(4), np.where(np.arange(8)[:, None] == 3, np.nan, FEATURES)
  with pytest.raises(UserError, match="row 3 of features has the value nan"):
    probe.step(probe.init(3), features, CLASS)
  state, _ = compiled(probe)(probe.init(3), features, CLASS)
  assert np.isnan(state["params"]["kernel"]).all()


# Beside a method.


def test_the_encoder_is_to_the_bit_that_of_the_method_alone_and_the_probe_learns():
  mesh = training.make_mesh()
  source = [batch_of(*(part[i * 64 : (i + 1) * 64] for part in digits(1280))) for i in range(20)]
  trained, metrics = {}, {}
  for name, method in {"alone": ALONE, "both": BOTH}.items():
    optimizer = optax.sgd(0.05)
    state = training.init(method, optimizer, source[0], mesh=mesh)
    step = training.make_train_step(method, optimizer, mesh)
    metrics[name] = []
    for t in range(60):
      state, seen = step(state, source[t % 20])
      metrics[name].append(seen)
    trained[name] = state
  online = [float(seen.pop("online_accuracy")) for seen in metrics["both"]]
  chex.assert_trees_all_equal(metrics["alone"], metrics["both"])  # the gradient's norm among them
  probe = trained["both"].state.pop("online_probe")
  chex.assert_trees_all_equal(trained["alone"], trained["both"])
  assert probe["params"]["kernel"].shape == (16, 10)
  assert online[0] < 0.3 and np.mean(online[-10:]) > 0.6


def test_a_batch_is_judged_when_training_begins():
  known = np.asarray(BATCH["label"])
  for label, expected in (
    (known[:, None], "must be"),
    (known * 1.0, "integers"),
    (known + 1, "has the label 10"),
  ):
    with pytest.raises(UserError, match=expected):
      BOTH.init(KEY, {**BATCH, "label": label})
  jax.eval_shape(lambda key: BOTH.init(key, {**BATCH, "label": known - 1}), KEY)


def test_data_without_labels_have_no_online_probe():
  unlabeled = {name: BATCH[name] for name in ("image", "index")}
  with pytest.raises(ValueError, match="needs labels; the batch has image, index"):
    BOTH.init(KEY, unlabeled)
