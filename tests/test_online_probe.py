"""The online probe: it learns what can be read off the features, and moves nothing else."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from contrastax import encoders, methods, training, views
from contrastax.evaluation import online_probe, watched

KEY = jax.random.key(0)


def digits(n):
  data = load_digits()
  return data.images[:n, ..., None].astype(np.float32) / 16, data.target[:n].astype(np.int32)


def batch_of(images, labels):
  index = jnp.arange(len(images), dtype=jnp.int32)
  return {"image": jnp.asarray(images), "label": jnp.asarray(labels), "index": index}


BATCH = batch_of(*digits(32))
ALONE = methods.SimCLR(
  encoder=encoders.mlp((16,)),
  projection=encoders.projection((16,), 8),
  views=views.affine_jitter(),
)
BOTH = watched(ALONE, online_probe(10))


def equal(a, b):
  assert jax.tree.structure(a) == jax.tree.structure(b)
  jax.tree.map(np.testing.assert_array_equal, a, b)


# The probe alone.


def run(features, labels, epochs=20, batch=64, scale=1.0):
  probe = online_probe(10)
  state, accuracy = probe.init(features.shape[1]), []
  step = jax.jit(probe.step)
  for epoch in range(epochs):
    order = np.random.default_rng(epoch).permutation(len(features))
    for at in np.split(order[: len(order) // batch * batch], len(order) // batch):
      state, metrics = step(state, jnp.asarray(scale * features[at]), jnp.asarray(labels[at]))
      accuracy.append(float(metrics["online_accuracy"]))
  return state, np.array(accuracy)


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
  step, features, labels = jax.jit(probe.step), np.eye(2, dtype=np.float32), np.array([0, 1])
  state, first = step(probe.init(2), features, labels)
  assert first["online_accuracy"] == 0.5  # of equal logits the first class is taken
  _, second = step(state, features, labels)
  assert second["online_accuracy"] == 1


def test_its_step_is_adam_on_the_cross_entropy_of_standardised_features(float64):
  rng = np.random.default_rng(0)
  features, labels = rng.normal(size=(8, 3)) * 5 + 1, rng.integers(0, 4, 8)
  probe = online_probe(4, learning_rate=0.1)
  state, _ = jax.jit(probe.step)(probe.init(3), features, labels)
  z = (features - features.mean(0)) / np.sqrt(features.var(0) + 1e-6 * features.var(0).max())
  residual = 0.25 - np.eye(4)[labels]  # the softmax of zeros, less the label
  for name, gradient in {"kernel": z.T @ residual / 8, "bias": residual.mean(0)}.items():
    expected = -0.1 * gradient / (np.abs(gradient) + 1e-8)  # Adam's first step
    np.testing.assert_allclose(state["params"][name], expected, rtol=1e-6, atol=1e-9)


def test_features_that_do_not_move_do_no_harm():
  probe, labels = online_probe(3), np.arange(6) % 3
  step, still = jax.jit(probe.step), np.ones((6, 4), np.float32)
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
  equal(metrics["alone"], metrics["both"])  # the gradient's norm among them
  probe = trained["both"].state.pop("online_probe")
  equal(trained["alone"], trained["both"])
  assert probe["params"]["kernel"].shape == (16, 10)
  assert online[0] < 0.3 and np.mean(online[-10:]) > 0.6


def test_data_without_labels_have_no_online_probe():
  unlabelled = {name: BATCH[name] for name in ("image", "index")}
  with pytest.raises(ValueError, match="needs labels; the batch has image, index"):
    BOTH.init(KEY, unlabelled)
