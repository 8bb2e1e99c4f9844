"""ResNets: published sizes, BatchNorm in groups, half precision, and the device contract.

python tests/test_resnet.py    # with 8 host devices and JAX_ENABLE_X64=1: apart by how much
"""

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import processes
import pytest
from jax.extend.core import jaxprs_in_params

from contrastax import core, parts, training
from contrastax.core import Encoder, UserError
from contrastax.encoders import from_nnx, resnet, vit
from contrastax.encoders.batch_norm import BatchNorm, in_groups
from contrastax.encoders.resnet import BasicBlock, Bottleneck, ResNet

KEY = jax.random.key(0)
SMALL = {"depth": 8, "stem": "cifar", "width": 4}
PLAIN = {"dtype": None, "remat": False, "hidden": ()}


def network(block, blocks, **changed):
  """A ResNet of few blocks, of width 4."""
  arguments = {"stem": "cifar", "width": 4, "bn_groups": 1, **PLAIN, **changed}
  return from_nnx(lambda x, rngs: ResNet(x.shape[-1], block, blocks, rngs=rngs, **arguments))


def images(n=8, side=8, seed=0):
  return np.random.default_rng(seed).random((n, side, side, 3)).astype(np.float32)


def shapes(encoder, *shape):
  return jax.eval_shape(encoder.init, KEY, jax.ShapeDtypeStruct((2, *shape), jnp.float32))


def count(tree):
  return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


def started(encoder, x):
  """Its parameters and state, of the type of x."""
  return jax.tree.map(lambda a: a.astype(x.dtype), jax.jit(encoder.init)(KEY, x))


def applied(encoder, params, state, x, *, train):
  return jax.jit(lambda p, s, x: encoder.apply(p, s, x, train=train))(params, state, x)


def disturbed(tree, seed=1):
  """The tree with noise on every leaf, so that no scale is 0."""
  rng = np.random.default_rng(seed)
  return jax.tree.map(lambda a: a + 0.2 * rng.standard_normal(a.shape).astype(a.dtype), tree)


def gradient_of(encoder, params, state, x, key=None):
  """(value, gradient, state after) of a smooth function of the embeddings."""
  weights = np.random.default_rng(5).standard_normal((len(x), 1))

  def objective(params):
    y, after = encoder.apply(params, state, x, key=key, train=True)
    return (jnp.tanh(y) * weights.astype(y.dtype)).mean(), after

  (value, after), gradient = jax.value_and_grad(objective, has_aux=True)(params)
  return value, gradient, after


# The networks.


@pytest.mark.parametrize(
  "depth, published",
  [(18, 11_689_512 - 513_000), (34, 21_797_672 - 513_000), (50, 25_557_032 - 2_049_000)],
)
def test_torchvisions_number_of_parameters_without_its_classifier(depth, published):
  params, state = shapes(resnet(depth), 224, 224, 3)
  assert count(params) == published
  assert count(state) == {18: 9_600, 34: 17_024, 50: 53_120}[depth]


def basic(stem, blocks, width):
  """The number of parameters of a network of basic blocks: kernels, scales and biases."""
  total, channels = 3 * stem**2 * width + 2 * width, width
  for i, number in enumerate(blocks):
    features = width * 2**i
    for _ in range(number):
      total += 9 * channels * features + 9 * features**2 + 4 * features
      total += 0 if channels == features else channels * features + 2 * features
      channels = features
  return total


@pytest.mark.parametrize(
  "arguments, expected",
  [
    ({"depth": 18}, basic(7, (2, 2, 2, 2), 64)),
    ({"depth": 18, "stem": "cifar"}, basic(3, (2, 2, 2, 2), 64)),
    ({"depth": 34, "width": 128}, basic(7, (3, 4, 6, 3), 128)),
    ({"depth": 8, "stem": "cifar", "width": 16}, 77_392),
    ({"depth": 8, "stem": "cifar", "width": 32}, basic(3, (1, 1, 1), 32)),
  ],
)
def test_the_number_of_parameters_of_other_stems_and_widths(arguments, expected):
  assert count(shapes(resnet(**arguments), 32, 32, 3)[0]) == expected


@pytest.mark.parametrize(
  "arguments, hidden",
  [
    (
      {"depth": 50},
      {"stem": (8, 8, 64), "stage1": (8, 8, 256), "stage4": (1, 1, 2048), "embedding": (2048,)},
    ),
    (
      {"depth": 18, "stem": "cifar", "width": 128},
      {"stem": (32, 32, 128), "stage2": (16, 16, 256), "embedding": (1024,)},
    ),
    (SMALL, {"stage3": (8, 8, 16), "embedding": (16,)}),
  ],
)
@pytest.mark.parametrize("train", [True, False])
def test_the_embedding_and_the_hidden_layers(arguments, hidden, train):
  names = tuple(name for name in hidden if name != "embedding")
  x = jax.ShapeDtypeStruct((4, 32, 32, 3), jnp.float32)
  plain, named = resnet(**arguments), resnet(**arguments, hidden=names)
  both = jax.eval_shape(plain.init, KEY, x)
  y, after = jax.eval_shape(lambda p, s, x: plain.apply(p, s, x, train=train), *both, x)
  assert (y.shape, y.dtype) == ((4, *hidden["embedding"]), jnp.float32)
  like = jax.tree.map(lambda a: (a.shape, a.dtype, a.weak_type), (both[1], after))
  assert like[0] == like[1]
  found, _ = jax.eval_shape(lambda p, s, x: named.apply(p, s, x, train=train), *both, x)
  assert {name: a.shape[1:] for name, a in found.items()} == hidden


def test_the_embedding_is_the_mean_over_places_of_the_last_stage():
  encoder, x = network(BasicBlock, (1,), hidden=("stage1",)), images()
  found, _ = applied(encoder, *started(encoder, x), x, train=False)
  np.testing.assert_allclose(found["embedding"], found["stage1"].mean((1, 2)), rtol=1e-5)


def test_at_first_every_block_without_a_projection_is_the_identity():
  x = images()
  longer, shorter = network(BasicBlock, (2,)), network(BasicBlock, (1,))
  params, state = started(longer, x)
  for tree in (params, state):
    assert set(tree["stages"]["0"]) == {"0", "1"}
  first = [{**tree, "stages": {"0": {"0": tree["stages"]["0"]["0"]}}} for tree in (params, state)]
  y, _ = applied(longer, params, state, x, train=True)
  z, _ = applied(shorter, *first, x, train=True)
  np.testing.assert_allclose(y, z, rtol=1e-6)
  assert np.abs(z).max() > 0.1


def test_kernels_are_he_normal_by_fan_out():
  params, _ = started(resnet(8, width=64, stem="cifar"), images(2))
  for name, fan_out in (("conv1", 9 * 256), ("downsample", 256)):
    found = params["stages"]["2"]["0"][name]
    kernel = np.asarray((found["0"] if name == "downsample" else found)["kernel"])
    assert abs(kernel.std() / np.sqrt(2 / fan_out) - 1) < 0.02
    assert np.abs(kernel).max() > 3.5 * np.sqrt(2 / fan_out)  # not truncated


def test_every_parameter_has_a_gradient_and_every_statistic_moves(float64):
  encoder = network(Bottleneck, (1,), stem="imagenet")
  x = images(side=16).astype(np.float64)
  params, state = started(encoder, x)
  _, gradient, after = jax.jit(lambda p, s: gradient_of(encoder, p, s, x))(disturbed(params), state)
  for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
    assert np.abs(leaf).max() > 1e-7, path
  for old, new in zip(jax.tree.leaves(state), jax.tree.leaves(after), strict=True):
    assert new.dtype == jnp.float64 and (old != new).all()


def test_a_config_names_it():
  spec = {"name": "resnet", "depth": 8, "stem": "cifar", "width": 4, "hidden": ["stage1"]}
  encoder = parts.assemble(core.Encoder, spec, "encoder")
  assert shapes(encoder, 8, 8, 3)[0]["conv1"]["kernel"].shape == (3, 3, 3, 4)


@pytest.mark.parametrize(
  "arguments, expected",
  [
    ({"depth": 20}, "resnet: depth must be one of 8, 18, 34, 50, not 20"),
    ({"stem": "mnist"}, "resnet: stem must be 'imagenet' or 'cifar', not 'mnist'"),
    ({"width": 0}, "widths must be positive integers, such as (64, 128), not (0,)"),
    ({"bn_groups": 0}, "bn_groups must be an integer of at least 1, not 0"),
    ({"dtype": "bf16"}, "dtype must be a floating-point type, such as 'bfloat16', not 'bf16'"),
    ({"dtype": "int8"}, "dtype must be a floating-point type, such as 'bfloat16', not 'int8'"),
  ],
)
def test_wrong_arguments(arguments, expected):
  with pytest.raises(UserError) as error:
    resnet(**arguments)
  assert str(error.value) == expected


def test_wrong_input():
  with pytest.raises(UserError, match=r"resnet takes images \[n, h, w, c\], not .*\[n, 64\]"):
    resnet().init(KEY, np.zeros((3, 64), np.float32))
  encoder, x = resnet(**SMALL, hidden=("stage4",)), images()
  both = jax.eval_shape(encoder.init, KEY, x)
  with pytest.raises(UserError, match="hidden: there is no layer 'stage4'; did you mean 'stage"):
    jax.eval_shape(lambda p, s: encoder.apply(p, s, x, train=False), *both)


# Half precision and recomputation.


def convolutions(jaxpr):
  """The types of the inputs of all convolutions of a program."""
  found = []
  for equation in jaxpr.eqns:
    if equation.primitive.name == "conv_general_dilated":
      found.append(tuple(str(v.aval.dtype) for v in equation.invars))
    for inner in jaxprs_in_params(equation.params):
      found += convolutions(inner)
  return found


def test_bfloat16_computes_in_bfloat16_and_keeps_float32():
  x = images()
  half = network(BasicBlock, (1,), dtype="bfloat16", hidden=("stage1",))
  params, state = started(half, x)
  params = disturbed(params)
  y, after = applied(half, params, state, x, train=True)
  for leaf in jax.tree.leaves((params, state, y, after)):
    assert leaf.dtype == jnp.float32
  program = jax.make_jaxpr(lambda p: half.apply(p, state, x, train=True))(params)
  assert set(convolutions(program.jaxpr)) == {("bfloat16", "bfloat16")}
  expected, moved = applied(network(BasicBlock, (1,)), params, state, x, train=True)
  scale = float(expected.std())
  assert 1e-4 < np.abs(y["embedding"] - expected).max() / scale < 0.1
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-2, rtol=2e-2), after, moved)


def test_remat_changes_no_number_and_saves_what_a_block_computed(float64):
  x = images().astype(np.float64)
  plain, remat = network(BasicBlock, (1,)), network(BasicBlock, (1,), remat=True)
  params, state = started(plain, x)
  params = disturbed(params)
  found = [jax.jit(lambda p, e=e: gradient_of(e, p, state, x))(params) for e in (plain, remat)]
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12), *found)

  def kept(encoder):
    def objective(params):
      return encoder.apply(params, state, x, train=True)[0].sum()

    return count(jax.eval_shape(lambda p: jax.vjp(objective, p)[1], params))

  assert kept(remat) < 0.6 * kept(plain)


# BatchNorm in groups.


def test_batch_norm_in_groups_is_batch_norm_of_each_group(float64):
  rng = np.random.default_rng(0)
  x = rng.standard_normal((12, 3, 2, 5)) + np.arange(12)[:, None, None, None]
  encoder = from_nnx(lambda x, rngs: BatchNorm(5, rngs, groups=3))
  params, state = jax.tree.map(lambda a: a.astype(jnp.float64), encoder.init(KEY, x))
  y, after = encoder.apply(params, state, x, train=True)
  means, variances = [], []
  for rows in (slice(0, 4), slice(4, 8), slice(8, 12)):
    mean, var = x[rows].mean((0, 1, 2)), x[rows].var((0, 1, 2))
    np.testing.assert_allclose(y[rows], (x[rows] - mean) / np.sqrt(var + 1e-5), atol=1e-12)
    means.append(mean)
    variances.append(var)
  np.testing.assert_allclose(after["mean"], 0.1 * np.mean(means, 0), rtol=1e-12)
  np.testing.assert_allclose(after["var"], 0.9 + 0.1 * np.mean(variances, 0), rtol=1e-12)
  z, still = encoder.apply(params, after, x[:7], train=False)  # any number: it has no groups
  expected = (x[:7] - np.mean(means, 0) * 0.1) / np.sqrt(np.asarray(after["var"]) + 1e-5)
  np.testing.assert_allclose(z, expected, atol=1e-12)
  jax.tree.map(np.testing.assert_array_equal, still, after)


def place(params, state, x, *, key, train):
  return {"place": jnp.arange(len(x)), "x": x}, state


def test_groups_are_drawn_from_the_key_and_embeddings_keep_their_order():
  encoder, x = in_groups(Encoder(None, place), 4), np.arange(40.0)
  first, _ = encoder.apply({}, {}, x, key=jax.random.key(1), train=True)
  np.testing.assert_array_equal(first["x"], x)
  assert sorted(first["place"].tolist()) == list(range(40))
  again, _ = encoder.apply({}, {}, x, key=jax.random.key(1), train=True)
  np.testing.assert_array_equal(first["place"], again["place"])
  other, _ = encoder.apply({}, {}, x, key=jax.random.key(2), train=True)
  assert (np.asarray(first["place"]) // 10 != np.asarray(other["place"]) // 10).mean() > 0.4
  evaluated, _ = encoder.apply({}, {}, x, key=jax.random.key(1), train=False)
  np.testing.assert_array_equal(evaluated["place"], np.arange(40))


def test_groups_need_a_key_and_a_batch_that_they_divide():
  encoder = resnet(**SMALL, bn_groups=3)
  x = jax.ShapeDtypeStruct((8, 8, 8, 3), jnp.float32)
  both = jax.eval_shape(encoder.init, KEY, x)

  def program(encoder, key, train):
    return str(
      jax.make_jaxpr(lambda p, s, x: encoder.apply(p, s, x, key=key, train=train))(*both, x)
    )

  with pytest.raises(
    ValueError, match="the groups of BatchNorm are random in training; pass a key to apply"
  ):
    program(encoder, None, True)
  expected = r"a batch of 8 examples \(all views together\) cannot be divided into bn_groups=3"
  with pytest.raises(UserError, match=expected):
    program(encoder, KEY, True)
  assert program(encoder, None, False) == program(resnet(**SMALL), None, False)


# The device contract.


def apart(one, other):
  def relative(a, b):
    return float(np.abs(a - b).max() / max(1.0, np.abs(a).max()))

  return max(jax.tree.leaves(jax.tree.map(relative, one, other)))


def measure():
  """By how much value, gradient and state differ between 1 and 8 devices; and what moved."""
  found = {}
  for name, encoder in {
    "resnet in groups": in_groups(network(BasicBlock, (1,), bn_groups=4), 4),
    "vit": vit(16, 1, 2, patch=4),
  }.items():
    x = images(16).astype(np.float64)
    params, state = started(encoder, x)
    params = disturbed(params)
    results = []
    for devices in (1, 8):
      mesh = training.make_mesh(jax.devices()[:devices])
      everywhere, divided = training.replicated(mesh), training.sharded(mesh)
      step = jax.jit(
        lambda params, state, x, encoder=encoder: gradient_of(encoder, params, state, x, KEY),
        in_shardings=(everywhere, everywhere, divided),
        out_shardings=everywhere,
      )
      result = step(params, state, jax.device_put(x, divided))
      assert len(result[0].sharding.device_set) == devices
      results.append(jax.tree.map(np.asarray, result))
    _, gradient, after = results[0]
    found[name] = {
      "apart": apart(*results),
      "least gradient": float(min(np.abs(leaf).max() for leaf in jax.tree.leaves(gradient))),
      "moved": [
        bool((np.asarray(old) != new).all())
        for old, new in zip(jax.tree.leaves(state), jax.tree.leaves(after), strict=True)
      ],
    }
  print(json.dumps(found))


def test_one_and_eight_devices_give_the_same():
  found = processes.measured(__file__)
  assert set(found) == {"resnet in groups", "vit"}
  for name, result in found.items():
    assert result["apart"] < 1e-12, (name, result)
    assert result["least gradient"] > 1e-6, (name, result)
    assert set(result["moved"]) == {name != "vit"}, (name, result)  # whose patches are frozen


if __name__ == "__main__":
  measure()
