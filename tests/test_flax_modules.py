"""Flax modules as pure functions."""

import json

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import errors, linen, nnx

from contrastax.encoders import from_linen, from_nnx

KEY = jax.random.key(0)


def normal(*shape, seed=0):
  return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def copied(tree):
  return jax.tree.map(lambda leaf: np.array(leaf, copy=True), tree)


# NNX modules.


class TwoDropouts(nnx.Module):
  """Its input through each of two Dropout layers, side by side."""

  def __init__(self, rngs):
    self.first = nnx.Dropout(0.5, rngs=rngs)
    self.second = nnx.Dropout(0.5, rngs=rngs)

  def __call__(self, x):
    return jnp.concatenate([self.first(x), self.second(x)], -1)


class Deep(nnx.Module):
  """More than ten layers in a list: as texts their places sort differently."""

  def __init__(self, features, rngs):
    self.layers = nnx.List([nnx.Linear(features, features, rngs=rngs) for _ in range(11)])

  def __call__(self, x):
    for layer in self.layers:
      x = jnp.sin(layer(x))
    return x


def sequential(x, rngs):
  return nnx.Sequential(
    nnx.Linear(x.shape[-1], 8, use_bias=False, rngs=rngs),
    nnx.BatchNorm(8, rngs=rngs),
    jax.nn.relu,
    nnx.Dropout(0.5, rngs=rngs),
    nnx.Linear(8, 4, rngs=rngs),
  )


BUILDS = {
  "sequential": sequential,
  "list": lambda x, rngs: Deep(x.shape[-1], rngs),
}


@pytest.fixture(scope="module", params=BUILDS)
def encoded(request):
  encoder = from_nnx(BUILDS[request.param])
  x = normal(10, 6)
  return encoder, x, *encoder.init(KEY, x)


def test_parameters_and_state_are_plain_nested_dicts_with_text_keys(encoded):
  _, _, params, state = encoded

  def check(tree):
    if isinstance(tree, jax.Array):
      assert not jnp.issubdtype(tree.dtype, jax.dtypes.prng_key)
      return
    assert type(tree) is dict
    for key, value in tree.items():
      assert type(key) is str
      check(value)

  check(params)
  check(state)
  assert jax.tree.leaves(params)


def test_apply_is_pure(encoded):
  encoder, x, params, state = encoded
  before = copied((params, state, x))
  first = copied(encoder.apply(params, state, x, key=KEY, train=True))
  chex.assert_trees_all_equal((params, state, x), before)
  chex.assert_trees_all_equal(encoder.apply(params, state, x, key=KEY, train=True), first)
  encoder.apply(params, state, x, train=False)
  chex.assert_trees_all_equal((params, state, x), before)


def test_parameters_survive_a_round_trip_through_json(encoded):
  encoder, x, params, state = encoded
  text = json.dumps(jax.tree.map(lambda leaf: leaf.tolist(), (params, state)), sort_keys=True)
  read_params, read_state = (
    jax.tree.map(
      lambda leaf: jnp.asarray(leaf, jnp.float32), tree, is_leaf=lambda t: type(t) is list
    )
    for tree in json.loads(text)
  )
  chex.assert_trees_all_equal((read_params, read_state), (params, state))
  chex.assert_trees_all_equal(
    encoder.apply(read_params, read_state, x, key=KEY, train=True),
    encoder.apply(params, state, x, key=KEY, train=True),
  )


def test_the_layers_of_a_list_keep_their_order_beyond_ten():
  encoder, x = from_nnx(BUILDS["list"]), normal(4, 6)
  params, state = encoder.init(KEY, x)
  y, _ = encoder.apply(params, state, x, train=False)
  for place in range(11):
    layer = params["layers"][str(place)]
    x = np.sin(x @ np.asarray(layer["kernel"]) + np.asarray(layer["bias"]))
  np.testing.assert_allclose(y, x, rtol=1e-4, atol=1e-5)


def test_an_encoder_made_again_takes_the_same_parameters(encoded, request):
  encoder, x, params, state = encoded
  again = from_nnx(BUILDS[request.node.callspec.params["encoded"]])
  chex.assert_trees_all_equal(
    again.apply(params, state, x, train=False), encoder.apply(params, state, x, train=False)
  )


def test_jit_and_other_batch_sizes_change_nothing(encoded):
  encoder, x, params, state = encoded
  plain = encoder.apply(params, state, x, key=KEY, train=True)
  jitted = jax.jit(encoder.apply, static_argnames="train")(params, state, x, key=KEY, train=True)
  assert jax.tree.structure(plain) == jax.tree.structure(jitted)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), plain, jitted)
  one, _ = encoder.apply(params, state, x[:1], train=False)
  np.testing.assert_allclose(
    one, encoder.apply(params, state, x, train=False)[0][:1], rtol=1e-5, atol=1e-6
  )


def test_the_gradient_of_a_linear_layer_is_its_formula():
  encoder = from_nnx(lambda x, rngs: nnx.Linear(x.shape[-1], 3, rngs=rngs))
  x, weights = normal(7, 5), normal(7, 3, seed=1)
  params, state = encoder.init(KEY, x)

  @jax.jit
  @jax.grad
  def gradient(params):
    y, after = encoder.apply(params, state, x, train=True)
    assert after == {}
    return (y * weights).sum()

  found = gradient(params)
  np.testing.assert_allclose(found["kernel"], x.T @ weights, rtol=1e-5, atol=1e-5)
  np.testing.assert_allclose(found["bias"], weights.sum(0), rtol=1e-5, atol=1e-5)


@pytest.fixture(scope="module")
def dropouts():
  encoder = from_nnx(lambda x, rngs: TwoDropouts(rngs))
  x = np.ones((4, 500), np.float32)
  params, state = encoder.init(KEY, x)
  assert jax.tree.leaves((params, state)) == []  # keys are neither
  apply = jax.jit(encoder.apply, static_argnames="train")
  return lambda key, train: np.asarray(apply(params, state, x, key=key, train=train)[0])


def test_dropout_draws_from_the_key_and_from_nothing_else(dropouts):
  first = dropouts(jax.random.key(1), True)
  assert set(np.unique(first)) == {0.0, 2.0}
  assert abs((first == 0).mean() - 0.5) < 4 * 0.5 / np.sqrt(first.size)
  np.testing.assert_array_equal(dropouts(jax.random.key(1), True), first)
  assert abs((dropouts(jax.random.key(2), True) == first).mean() - 0.5) < 0.05


def test_two_dropout_layers_have_different_masks(dropouts):
  first, second = np.split(dropouts(jax.random.key(1), True), 2, axis=1)
  assert abs((first == second).mean() - 0.5) < 4 * 0.5 / np.sqrt(first.size)


def test_dropout_in_training_needs_a_key(dropouts):
  expected = "this encoder is random in training; pass a key to apply"
  with pytest.raises(ValueError, match=expected):
    dropouts(None, True)


def test_evaluation_needs_no_key_and_draws_nothing(dropouts):
  assert (dropouts(None, False) == 1).all()
  assert (dropouts(jax.random.key(1), False) == 1).all()


def test_a_network_may_keep_state_of_its_own():
  class Counter(nnx.Module):
    def __init__(self, rngs):
      self.linear = nnx.Linear(3, 2, rngs=rngs)
      self.calls = nnx.Variable(jnp.zeros((), jnp.int32))

    def __call__(self, x):
      self.calls[...] = self.calls[...] + 1
      return self.linear(x)

  encoder = from_nnx(lambda x, rngs: Counter(rngs))
  x = normal(2, 3)
  params, state = encoder.init(KEY, x)
  assert set(state) == {"calls"}
  _, after = encoder.apply(params, state, x, train=True)
  _, after = encoder.apply(params, after, x, train=True)
  assert int(state["calls"]) == 0 and int(after["calls"]) == 2


def test_an_array_as_a_bare_attribute_is_refused():
  class Shifted(nnx.Module):
    def __init__(self, rngs):
      self.linear = nnx.Linear(6, 3, rngs=rngs)
      self.shift = jnp.zeros(3)

    def __call__(self, x):
      return self.linear(x) + self.shift

  encoder = from_nnx(lambda x, rngs: Shifted(rngs))
  with pytest.raises(ValueError, match="attribute shift is an array; wrap it in nnx.Variable"):
    encoder.init(jax.random.key(0), jnp.ones((2, 6)))


# Linen modules.


class LinenNet(linen.Module):
  """Linear, BatchNorm, ReLU, Dropout, linear; told by `train` whether it is trained."""

  @linen.compact
  def __call__(self, x, train):
    x = linen.Dense(8, use_bias=False)(x)
    x = linen.BatchNorm(use_running_average=not train, momentum=0.9)(x)
    x = linen.Dropout(0.5, deterministic=not train)(jax.nn.relu(x))
    return linen.Dense(4)(x)


class LinenDropout(linen.Module):
  """Told by `deterministic`; has neither parameters nor state, and records what it saw."""

  @linen.compact
  def __call__(self, x, *, deterministic=False):
    self.sow("intermediates", "seen", x)
    return linen.Dropout(0.5)(x, deterministic=deterministic)


def test_a_linen_module_is_what_linen_computes():
  module, x = LinenNet(), normal(10, 6)
  encoder = from_linen(module)
  params, state = encoder.init(KEY, x)
  expected = module.init(KEY, x, train=False)
  chex.assert_trees_all_equal({"params": params, **state}, expected)
  assert set(state) == {"batch_stats"}

  apply = jax.jit(encoder.apply, static_argnames="train")
  y, after = apply(params, state, x, key=KEY, train=True)
  rngs = {"dropout": KEY}
  z, moved = module.apply(expected, x, train=True, rngs=rngs, mutable=["batch_stats"])
  np.testing.assert_allclose(y, z, rtol=1e-5, atol=1e-6)
  assert jax.tree.structure(after) == jax.tree.structure(dict(moved))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), after, moved)
  for old, new in zip(jax.tree.leaves(state), jax.tree.leaves(after), strict=True):
    assert (old != new).all() and old.dtype == new.dtype and not new.weak_type

  y, still = apply(params, after, x, train=False)
  np.testing.assert_allclose(
    y, module.apply({"params": params, **after}, x, train=False), rtol=1e-5, atol=1e-6
  )
  chex.assert_trees_all_equal(still, after)


def test_a_linen_modules_dropout_draws_from_the_key():
  encoder, x = from_linen(LinenDropout()), np.ones((4, 500), np.float32)
  params, state = encoder.init(KEY, x)
  assert (params, state) == ({}, {})

  def apply(key, train):
    y, after = encoder.apply(params, state, x, key=key, train=train)
    assert after == {}
    return np.asarray(y)

  first = apply(jax.random.key(1), True)
  assert set(np.unique(first)) == {0.0, 2.0}
  np.testing.assert_array_equal(apply(jax.random.key(1), True), first)
  assert abs((apply(jax.random.key(2), True) == first).mean() - 0.5) < 0.05
  assert (apply(None, False) == 1).all() and (apply(jax.random.key(1), False) == 1).all()
  with pytest.raises(errors.InvalidRngError, match="dropout"):
    apply(None, True)


def test_a_linen_module_without_a_mode():
  encoder, x = from_linen(linen.Dense(3)), normal(5, 4)
  params, state = encoder.init(KEY, x)
  y, after = encoder.apply(params, state, x, train=True)
  np.testing.assert_allclose(
    y, x @ np.asarray(params["kernel"]) + np.asarray(params["bias"]), rtol=1e-5, atol=1e-6
  )
  assert state == after == {}
