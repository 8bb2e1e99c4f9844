"""Encoders: their size and shape, gradients, convolutions, and BatchNorm's arithmetic."""

import functools
import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params

from contrastax.core import Encoder, Method, UserError
from contrastax.encoders import convnet, mlp, projection
from contrastax.encoders.convnet import convolution
from contrastax.nouns import NOUNS, hints_of, parts_of
from contrastax.parts import assemble

KEY = jax.random.key(0)


def normal(*shape, seed=0):
  return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def count(params):
  return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))


def paths(tree):
  return ["/".join(e.key for e in path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)]


def in_float64(tree):
  return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), tree)


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
  chex.assert_trees_all_equal(first, init(jax.random.key(0), x)[0])


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
  chex.assert_trees_all_equal(still, after)


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


def test_batch_norm_of_a_large_mean_does_not_cancel():
  x = 100 + 0.01 * np.random.default_rng(0).normal(size=(64, 3)).astype(np.float32)
  encoder = mlp((5,))
  params, state = encoder.init(jax.random.key(0), x)
  found, _ = encoder.apply(params, state, x, train=True)
  hidden = (x @ np.asarray(params["hidden"]["0"]["kernel"])).astype(np.float64)
  expected = (hidden - hidden.mean(0)) / np.sqrt(hidden.var(0) + 1e-5)
  assert np.abs(expected).max() > 0.3
  np.testing.assert_allclose(found, np.maximum(expected, 0), atol=0.1)


def test_an_encoder_without_randomness_trains_without_a_key():
  encoder, x = mlp((4,)), normal(8, 3)
  params, state = encoder.init(KEY, x)
  y, _ = encoder.apply(params, state, x, train=True)
  z, _ = encoder.apply(params, state, x, key=KEY, train=True)
  np.testing.assert_array_equal(y, z)


def test_the_batch_of_init_does_not_matter():
  encoder = convnet((4,))
  chex.assert_trees_all_equal(
    encoder.init(KEY, normal(1, 8, 8, 1)), encoder.init(KEY, normal(5, 8, 8, 1, seed=3))
  )


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


# Half precision.

IN_BFLOAT16 = {
  "convnet": {"widths": (4, 8)},
  "mlp": {"widths": (4,)},
  "projection": {"widths": (4,), "out": 8},
  "resnet": {"depth": 8, "width": 4},
  "text": {"width": 8, "depth": 1, "heads": 2},
  "vit": {"width": 8, "depth": 1, "heads": 2, "patch": 4},
}


def products(jaxpr):
  """The types of the factors of all matrix products and convolutions of a program."""
  found = set()
  for equation in jaxpr.eqns:
    if equation.primitive.name in ("dot_general", "conv_general_dilated"):
      found.add(tuple(str(v.aval.dtype) for v in equation.invars))
    for inner in jaxprs_in_params(equation.params):
      found |= products(inner)
  return found


def test_every_encoder_with_layers_takes_a_dtype():
  takes = {name for name, part in parts_of(NOUNS["Encoder"]).items() if "dtype" in hints_of(part)}
  assert takes == IN_BFLOAT16.keys()


@pytest.mark.parametrize("name", IN_BFLOAT16)
def test_bfloat16_by_config_computes_in_bfloat16_and_keeps_float32(name):
  spec = {"name": name, **IN_BFLOAT16[name]}
  half = assemble(Encoder, {**spec, "dtype": "bfloat16"}, "encoder")
  whole = assemble(Encoder, spec, "encoder")
  x = normal(6, 8) if name in ("mlp", "projection") else normal(6, 8, 8, 3)
  x = (np.abs(normal(6, 5)) * 90).astype(np.uint8) if name == "text" else x
  params, state = half.init(KEY, x)
  chex.assert_trees_all_equal((params, state), whole.init(KEY, x))
  y, after = half.apply(params, state, x, key=None, train=True)
  assert {leaf.dtype.name for leaf in jax.tree.leaves((params, state, y, after))} == {"float32"}
  exact, _ = whole.apply(params, state, x, key=None, train=True)
  assert 0 < np.abs(y - exact).max() < 0.1 * np.abs(exact).max()
  program = jax.make_jaxpr(lambda p: half.apply(p, state, x, key=None, train=True)[0])(params)
  assert products(program.jaxpr) == {("bfloat16", "bfloat16")}
  wrong = {**spec, "dtype": "bf16"}
  with pytest.raises(UserError, match="dtype must be a floating-point type, such as 'bfloat16'"):
    assemble(Encoder, wrong, "encoder")


def test_a_loss_of_bfloat16_networks_is_computed_in_float32():
  spec = {
    "name": "SimCLR",
    "encoder": {"name": "convnet", "widths": (4,), "dtype": "bfloat16"},
    "projection": {"name": "projection", "widths": (4,), "out": 4, "dtype": "bfloat16"},
    "views": {"name": "unchanged"},
  }
  method = assemble(Method, spec, "method")
  batch = {"image": np.zeros((4, 8, 8, 1), np.float32), "index": np.arange(4)}
  params, state = method.init(KEY, batch)
  (value, _), gradient = jax.value_and_grad(method.objective, has_aux=True)(
    params, state, batch, KEY
  )
  assert {leaf.dtype.name for leaf in jax.tree.leaves((value, params, gradient))} == {"float32"}
