"""Encoders: their size and shape, BatchNorm's arithmetic, and Flax modules made pure."""

import functools
import json
import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import errors, linen, nnx

from contrastax.core import UserError
from contrastax.encoders import convnet, from_linen, from_nnx, mlp, projection
from contrastax.encoders.convnet import convolution

KEY = jax.random.key(0)


def normal(*shape, seed=0):
  return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def count(params):
  return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))


def paths(tree):
  return ["/".join(e.key for e in path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)]


def equal(a, b):
  assert jax.tree.structure(a) == jax.tree.structure(b)
  jax.tree.map(np.testing.assert_array_equal, a, b)


def in_float64(tree):
  return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), tree)


def copied(tree):
  return jax.tree.map(lambda leaf: np.array(leaf, copy=True), tree)


# The networks.


@pytest.mark.parametrize(
  "encoder, shape, parameters",
  [
    (convnet(), (8, 8, 1), 92_896),
    (convnet(), (28, 28, 1), 92_896),
    (convnet(), (32, 32, 3), 92_896 + 2 * 9 * 32),
    (convnet((8,)), (5, 9, 2), 2 * 9 * 8 + 16),
    (projection(), (128,), 24_896),
    (projection(()), (10,), 10 * 64 + 64),
    (mlp((16, 12)), (4, 4, 1), 16 * 16 + 32 + 16 * 12 + 24),
  ],
)
def test_the_number_of_parameters(encoder, shape, parameters):
  x = jax.ShapeDtypeStruct((2, *shape), jnp.float32)
  params, _ = jax.eval_shape(encoder.init, KEY, x)
  assert count(params) == parameters


@pytest.mark.parametrize(
  "encoder, shape, width",
  [
    (convnet(), (8, 8, 1), 128),
    (convnet((16, 24)), (28, 20, 3), 24),
    (projection(), (128,), 64),
    (projection((32, 32), out=7), (20,), 7),
    (mlp((16, 12)), (4, 5, 2), 12),
  ],
)
@pytest.mark.parametrize("train", [True, False])
def test_one_embedding_for_each_input(encoder, shape, width, train):
  x = jax.ShapeDtypeStruct((6, *shape), jnp.float32)
  params, state = jax.eval_shape(encoder.init, KEY, x)
  y, after = jax.eval_shape(lambda p, s, x: encoder.apply(p, s, x, train=train), params, state, x)
  assert y.shape == (6, width) and y.dtype == jnp.float32
  shapes = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype, leaf.weak_type), (state, after))
  assert shapes[0] == shapes[1]


def test_two_keys_start_from_different_parameters():
  x = normal(2, 6)
  init = jax.jit(mlp((5,)).init)
  first, second = (init(jax.random.key(k), x)[0] for k in (0, 1))
  kernels = [np.asarray(params["hidden"]["0"]["kernel"]) for params in (first, second)]
  assert (kernels[0] != kernels[1]).all()
  equal(first, init(jax.random.key(0), x)[0])


@pytest.mark.parametrize(
  "encoder", [convnet(), projection(), mlp((16, 16))], ids=["convnet", "projection", "mlp"]
)
def test_a_layer_before_batch_norm_has_no_bias(encoder):
  images = jax.ShapeDtypeStruct((2, 8, 8, 1), jnp.float32)
  params, state = jax.eval_shape(encoder.init, KEY, images)
  (layers,) = (params[name] for name in state)
  norms = [int(name) for name, layer in layers.items() if "scale" in layer]
  assert norms
  for norm in norms:
    assert set(layers[str(norm - 1)]) == {"kernel"}


@pytest.mark.parametrize(
  "encoder, shape",
  [(convnet((4,)), (8, 8, 1)), (projection((6,), 3), (5,)), (mlp((6, 5)), (7,))],
  ids=["convnet", "projection", "mlp"],
)
def test_every_parameter_has_a_gradient_beyond_rounding(encoder, shape):
  x, weights = normal(32, *shape), normal(32, 6, seed=1)

  def objective(params, state, x):
    y, _ = encoder.apply(params, state, x, train=True)
    return (jnp.tanh(y) * weights[:, : y.shape[1]]).mean()

  with jax.enable_x64(True):
    params, state = in_float64(jax.jit(encoder.init)(KEY, x))
    gradient = jax.jit(jax.grad(objective))(params, state, x.astype(np.float64))
  for name, leaf in zip(paths(gradient), jax.tree.leaves(gradient), strict=True):
    assert np.abs(leaf).max() > 1e-6, name


def test_convnet_refuses_what_is_not_an_image():
  with pytest.raises(UserError, match=r"convnet takes images \[n, h, w, c\], not .*64"):
    convnet().init(KEY, normal(3, 64))
  with pytest.raises(UserError, match=r"convnet takes images \[n, h, w, c\], not .*8, 8"):
    convnet().init(KEY, normal(3, 8, 8))


@pytest.mark.parametrize("widths", [(0,), (16, -1), (16, 2.5), ("16",)], ids=str)
@pytest.mark.parametrize("make", [convnet, mlp, projection])
def test_widths_are_positive_integers(make, widths):
  with pytest.raises(UserError, match="widths must be positive integers, such as"):
    make(widths)


def test_the_width_of_a_projection_is_positive():
  with pytest.raises(UserError, match="widths must be positive integers, such as"):
    projection((128,), out=0)


# BatchNorm.


@pytest.fixture(scope="module")
def trained():
  """A small convnet, what it started from, and what one training step made of it."""
  encoder = convnet((4, 6))
  x = normal(12, 8, 8, 2)
  params, state = jax.jit(encoder.init)(KEY, x)
  apply = jax.jit(encoder.apply, static_argnames="train")
  y, after = apply(params, state, x, train=True)
  return encoder, apply, x, params, state, y, after


def test_training_moves_every_statistic(trained):
  *_, state, _, after = trained
  assert jax.tree.structure(state) == jax.tree.structure(after)
  assert len(jax.tree.leaves(state)) == 4
  for before, now in zip(jax.tree.leaves(state), jax.tree.leaves(after), strict=True):
    assert (np.asarray(before) != np.asarray(now)).all()


def test_evaluation_moves_nothing(trained):
  _, apply, x, params, _, _, after = trained
  _, still = apply(params, after, x, train=False)
  equal(still, after)


def test_in_evaluation_an_embedding_does_not_depend_on_the_batch(trained):
  _, apply, x, params, _, _, after = trained
  y, _ = apply(params, after, x, train=False)
  other = np.concatenate([x[:3], 100 * normal(9, 8, 8, 2, seed=7)])
  z, _ = apply(params, after, other, train=False)
  np.testing.assert_array_equal(z[:3], y[:3])
  in_training = apply(params, after, other, train=True)[0]
  assert np.abs(np.asarray(in_training[:3] - trained[5][:3])).max() > 1e-2


def test_batch_norm_has_momentum_nine_tenths_and_epsilon_1e_5():
  encoder, x = mlp((5,)), 3 + 0.01 * normal(16, 7).astype(np.float64)
  rng = np.random.default_rng(1)
  norm = {"scale": rng.random(5) + 0.5, "bias": rng.random(5) - 0.5}
  with jax.enable_x64(True):
    params, state = in_float64(jax.jit(encoder.init)(KEY, x))
    kernel = params["hidden"]["0"]["kernel"]
    params["hidden"]["1"] = norm
    apply = jax.jit(encoder.apply, static_argnames="train")
    y, after = apply(params, state, x, train=True)
    moved = jax.tree.map(np.asarray, after["hidden"]["1"])
    evaluated, _ = apply(params, after, x, train=False)

  def normalized(mean, var):
    return np.maximum((hidden - mean) / np.sqrt(var + 1e-5) * norm["scale"] + norm["bias"], 0)

  hidden = x @ kernel
  mean, var = hidden.mean(0), hidden.var(0)
  np.testing.assert_allclose(y, normalized(mean, var), atol=1e-8)
  np.testing.assert_allclose(moved["mean"], 0.1 * mean, rtol=1e-8)  # from 0
  np.testing.assert_allclose(moved["var"], 0.9 + 0.1 * var, rtol=1e-8)  # from 1
  np.testing.assert_allclose(evaluated, normalized(moved["mean"], moved["var"]), atol=1e-8)


# Flax modules as pure functions.


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
  equal((params, state, x), before)
  equal(encoder.apply(params, state, x, key=KEY, train=True), first)
  encoder.apply(params, state, x, train=False)
  equal((params, state, x), before)


def test_parameters_survive_a_round_trip_through_json(encoded):
  encoder, x, params, state = encoded
  text = json.dumps(jax.tree.map(lambda leaf: leaf.tolist(), (params, state)), sort_keys=True)
  read_params, read_state = (
    jax.tree.map(
      lambda leaf: jnp.asarray(leaf, jnp.float32), tree, is_leaf=lambda t: type(t) is list
    )
    for tree in json.loads(text)
  )
  equal((read_params, read_state), (params, state))
  equal(
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
  equal(again.apply(params, state, x, train=False), encoder.apply(params, state, x, train=False))


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


def test_an_encoder_without_randomness_trains_without_a_key():
  encoder, x = mlp((4,)), normal(8, 3)
  params, state = encoder.init(KEY, x)
  y, _ = encoder.apply(params, state, x, train=True)
  z, _ = encoder.apply(params, state, x, key=KEY, train=True)
  np.testing.assert_array_equal(y, z)


def test_the_batch_of_init_does_not_matter():
  encoder = convnet((4,))
  equal(encoder.init(KEY, normal(1, 8, 8, 1)), encoder.init(KEY, normal(5, 8, 8, 1, seed=3)))


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
  assert paths(state) == ["calls"]
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


def test_batch_norm_of_a_large_mean_does_not_cancel():
  x = 100 + 0.01 * np.random.default_rng(0).normal(size=(64, 3)).astype(np.float32)
  encoder = mlp((5,))
  params, state = encoder.init(jax.random.key(0), x)
  found, _ = encoder.apply(params, state, x, train=True)
  hidden = (x @ np.asarray(params["hidden"]["0"]["kernel"])).astype(np.float64)
  expected = (hidden - hidden.mean(0)) / np.sqrt(hidden.var(0) + 1e-5)
  assert np.abs(expected).max() > 0.3
  np.testing.assert_allclose(found, np.maximum(expected, 0), atol=0.1)


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
  equal({"params": params, **state}, expected)
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
  equal(still, after)


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


@pytest.mark.parametrize("size", [(8, 8), (7, 5), (2, 3), (1, 1)])
def test_on_a_cpu_a_convolution_is_a_product_of_patches(float64, size):
  """The same values and gradients as XLA's own convolution, at even and odd sizes."""
  rng = np.random.default_rng(0)
  x, kernel = rng.normal(size=(3, *size, 4)), rng.normal(size=(3, 3, 4, 6))

  def value(convolve, *inputs):
    return jnp.sin(
      convolve(*inputs, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    ).sum()

  @jax.jit
  def of_each(*inputs):
    return [
      jax.value_and_grad(functools.partial(value, convolve), (0, 1))(*inputs)
      for convolve in (convolution, jax.lax.conv_general_dilated)
    ]

  ours, xlas = of_each(x, kernel)
  chex.assert_trees_all_close(ours, xlas, rtol=1e-12, atol=1e-12)
