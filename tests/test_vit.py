"""Vision Transformers: published sizes, MoCo v3's rules, half precision."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastax import core, parts
from contrastax.core import UserError
from contrastax.encoders import vit
from contrastax.encoders.vit import sincos
from contrastax.training.optimizers import adamw, lars

KEY = jax.random.key(0)
SMALL = {"width": 16, "depth": 2, "heads": 2, "patch": 4}
SHALLOW = {**SMALL, "depth": 1}


def images(n=4, height=8, width=12, seed=0):
  return np.random.default_rng(seed).random((n, height, width, 3)).astype(np.float32)


def count(tree):
  return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


def started(encoder, x):
  """Its parameters and state, of the type of x."""
  return jax.tree.map(lambda a: a.astype(x.dtype), jax.jit(encoder.init)(KEY, x))


def disturbed(tree, seed=1):
  rng = np.random.default_rng(seed)
  return jax.tree.map(lambda a: a + 0.2 * rng.standard_normal(a.shape).astype(a.dtype), tree)


def applied(encoder, params, state, x, train=False):
  return jax.jit(lambda p, s, x: encoder.apply(p, s, x, train=train))(params, state, x)


def gradient_of(encoder, params, state, x):
  weights = np.random.default_rng(5).standard_normal((len(x), 16))

  @jax.jit
  @jax.grad
  def gradient(params):
    y, _ = encoder.apply(params, state, x, train=True)
    return (jnp.tanh(y) * weights.astype(y.dtype)).mean()

  return gradient(params)


@pytest.mark.parametrize(
  "width, heads, published",
  [(192, 3, 5_524_416), (384, 12, 21_665_664), (768, 12, 86_567_656 - 769_000)],
  ids=["Ti", "S", "B"],
)
def test_the_published_number_of_parameters_without_the_classifier(width, heads, published):
  x = jax.ShapeDtypeStruct((2, 224, 224, 3), jnp.float32)
  learned = vit(width, heads=heads, positions="learned", freeze_patches=False)
  params, state = jax.eval_shape(learned.init, KEY, x)
  block = 4 * width + (3 * width + 3) * width + (width + 1) * width + 8 * width**2 + 5 * width
  patches, positions = (16 * 16 * 3 + 1) * width, 197 * width
  assert count(params) == published == patches + positions + 12 * block + 3 * width
  assert state == {}
  params, state = jax.eval_shape(vit(width, heads=heads).init, KEY, x)
  assert (count(params), count(state)) == (published - patches - positions, patches)


@pytest.mark.parametrize("train", [True, False])
def test_the_embedding_and_the_hidden_layers(train):
  x = jax.ShapeDtypeStruct((5, 8, 12, 3), jnp.float32)
  encoder = vit(**SMALL, hidden=("patches", "block1"))
  both = jax.eval_shape(encoder.init, KEY, x)
  found, after = jax.eval_shape(lambda p, s, x: encoder.apply(p, s, x, train=train), *both, x)
  assert {name: a.shape for name, a in found.items()} == {
    "patches": (5, 7, 16),
    "block1": (5, 7, 16),
    "embedding": (5, 16),
  }
  assert jax.tree.map(jnp.shape, both[1]) == jax.tree.map(jnp.shape, after)


def test_fixed_positions_are_those_of_moco_v3():
  # Its code counts along one axis of a square grid first, as meshgrid's indexing="ij" does.
  side, width = 5, 24
  omega = 1 / 10000 ** (np.arange(6) / 6)
  one, other = (g.flatten() for g in np.meshgrid(np.arange(side), np.arange(side), indexing="ij"))
  angles = [np.outer(places, omega) for places in (one, other)]
  expected = np.concatenate([f(a) for a in angles for f in (np.sin, np.cos)], axis=1)
  found = sincos(side, side, width)
  assert found.shape == (1, 26, 24)
  np.testing.assert_array_equal(found[0, 0], 0)
  np.testing.assert_allclose(found[0, 1:], expected, atol=1e-12)
  rectangle = sincos(2, 3, 8)[0, 1:].reshape(2, 3, 8)
  np.testing.assert_allclose(rectangle[1, :, 0], np.sin(1))  # the first half tells the row
  np.testing.assert_allclose(rectangle[:, 2, 4], np.sin(2))  # the second the column


def test_patches_are_tokens_in_rows_and_positions_are_added():
  encoder, x = vit(**SMALL, hidden=("patches",)), images()
  params, state = started(encoder, x)
  tokens = np.asarray(applied(encoder, params, state, x)[0]["patches"])
  proj = state["patch_embed"]["proj"]
  kernel = np.asarray(proj["kernel"])
  for i, (r, c) in enumerate([(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]):
    patch = x[:, 4 * r : 4 * r + 4, 4 * c : 4 * c + 4]
    expected = np.einsum("nhwc,hwcd->nd", patch, kernel) + sincos(2, 3, 16)[0, 1 + i]
    np.testing.assert_allclose(tokens[:, 1 + i], expected, atol=1e-5)
  np.testing.assert_array_equal(
    tokens[:, 0], np.broadcast_to(params["cls_token"][0, 0], tokens[:, 0].shape)
  )


def test_fixed_positions_serve_images_of_another_size():
  encoder = vit(**SMALL)
  y, _ = applied(encoder, *started(encoder, images()), images(3, 16, 16))
  assert y.shape == (3, 16)


def test_initialization():
  encoder = vit(64, 1, 4, patch=8, positions="learned")
  params, state = started(encoder, images(1, 32, 32))
  block = params["blocks"]["0"]
  for kernel, bound in [
    (state["patch_embed"]["proj"]["kernel"], math.sqrt(6 / (3 * 8 * 8 + 64))),
    (block["attn"]["qkv"]["kernel"], math.sqrt(6 / (64 + 64))),
    (block["attn"]["proj"]["kernel"], math.sqrt(6 / (64 + 64))),
    (block["mlp"]["fc1"]["kernel"], math.sqrt(6 / (64 + 256))),
    (block["mlp"]["fc2"]["kernel"], math.sqrt(6 / (64 + 256))),
  ]:
    assert 0.99 * bound < np.abs(kernel).max() <= bound
    assert abs(np.std(kernel) / (bound / math.sqrt(3)) - 1) < 0.05
  assert 5e-7 < np.std(params["cls_token"]) < 2e-6
  assert 0.015 < np.std(params["pos_embed"]) < 0.025
  for path, leaf in jax.tree_util.tree_leaves_with_path((params, state)):
    if path[-1].key == "bias":
      assert (np.asarray(leaf) == 0).all()


def test_frozen_patches_are_no_parameters_and_stay_as_they_were_drawn():
  encoder, x = vit(**SHALLOW, hidden=("patches",)), images()
  params, state = started(encoder, x)
  assert set(state) == {"patch_embed"} and "patch_embed" not in params
  _, after = applied(encoder, params, state, x, train=True)
  jax.tree.map(np.testing.assert_array_equal, after, state)


@pytest.mark.parametrize("make", [adamw, lars])
def test_the_optimizers_rules_know_every_parameter_and_decay_the_kernels(make):
  encoder = vit(**SHALLOW, positions="learned", freeze_patches=False)
  params, _ = jax.tree.map(lambda a: np.ones(a.shape), jax.eval_shape(encoder.init, KEY, images()))
  optimizer = make(steps=10, learning_rate=0.1, weight_decay=0.5)
  nothing = jax.tree.map(np.zeros_like, params)
  updates, _ = jax.jit(lambda p, g: optimizer.update(g, optimizer.init(p), p))(params, nothing)
  for path, update in jax.tree_util.tree_leaves_with_path(updates):
    assert (np.asarray(update) != 0).any() == (path[-1].key == "kernel"), path


def test_every_parameter_but_the_keys_bias_has_a_gradient_beyond_rounding(float64):
  encoder = vit(**SHALLOW, positions="learned", freeze_patches=False)
  x = images().astype(np.float64)
  params, state = started(encoder, x)
  gradient = gradient_of(encoder, disturbed(params), state, x)
  for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
    assert np.abs(leaf).max() > 1e-6, path
  for block in gradient["blocks"].values():
    queries, keys, values = np.split(np.asarray(block["attn"]["qkv"]["bias"]), 3)
    assert (keys == 0).all() and (queries != 0).all() and (values != 0).all()


def test_the_keys_bias_changes_nothing(float64):
  encoder, x = vit(**SHALLOW), images().astype(np.float64)
  params, state = started(encoder, x)
  y, _ = applied(encoder, params, state, x)
  bias = params["blocks"]["0"]["attn"]["qkv"]["bias"]
  params["blocks"]["0"]["attn"]["qkv"]["bias"] = bias.at[16:32].add(3.0)
  z, _ = applied(encoder, params, state, x)
  np.testing.assert_allclose(y, z, atol=1e-12)


def test_bfloat16_computes_in_bfloat16_and_keeps_float32():
  half, whole, x = vit(**SHALLOW, dtype="bfloat16", hidden=("block1",)), vit(**SHALLOW), images()
  params, state = started(half, x)
  params = disturbed(params)
  y, after = applied(half, params, state, x, train=True)
  for leaf in jax.tree.leaves((params, state, y, after)):
    assert leaf.dtype == jnp.float32
  expected, _ = applied(whole, params, state, x)
  apart = np.abs(y["embedding"] - expected).max() / float(expected.std())
  assert 1e-4 < apart < 0.1
  text = str(jax.make_jaxpr(lambda p: half.apply(p, state, x, train=True)[0])(params))
  products = [line for line in text.splitlines() if "= dot_general[" in line]
  assert (
    products and "bf16[4,7,48] = dot_general" in text and "f32[4,7,48] = dot_general" not in text
  )


def test_remat_saves_what_a_block_computed_and_changes_no_embedding():
  x = images()
  plain, remat = vit(**SHALLOW), vit(**SHALLOW, remat=True)
  params, state = started(plain, x)

  def kept(encoder):
    def objective(params):
      return encoder.apply(params, state, x, train=True)[0].sum()

    return count(jax.eval_shape(lambda p: jax.vjp(objective, p)[1], params))

  assert kept(remat) < 0.6 * kept(plain)
  one, other = (applied(encoder, params, state, x)[0] for encoder in (plain, remat))
  np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_a_config_names_it():
  spec = {"name": "vit", **SMALL, "positions": "learned"}
  encoder = parts.assemble(core.Encoder, spec, "encoder")
  params, _ = jax.eval_shape(encoder.init, KEY, jax.ShapeDtypeStruct((1, 8, 8, 1), jnp.float32))
  assert params["pos_embed"].shape == (1, 5, 16)


@pytest.mark.parametrize(
  "arguments, expected",
  [
    ({"width": 30, "heads": 3}, "vit: width=30 must be a multiple of heads=3 and of 4"),
    ({"width": 32, "heads": 5}, "vit: width=32 must be a multiple of heads=5 and of 4"),
    ({"depth": 0}, "vit: depth must be a positive integer, not 0"),
    ({"patch": 2.0}, "vit: patch must be a positive integer, not 2.0"),
    ({"positions": "fixed"}, "vit: positions must be 'sincos', 'learned' or 'rope', not 'fixed'"),
    ({"dtype": "bf16"}, "dtype must be a floating-point type, such as 'bfloat16', not 'bf16'"),
  ],
)
def test_wrong_arguments(arguments, expected):
  with pytest.raises(UserError) as error:
    vit(**arguments)
  assert str(error.value) == expected


def test_wrong_input():
  with pytest.raises(UserError) as error:
    vit(16, 1, 2).init(KEY, images(1, 24, 36))
  assert str(error.value) == "vit: patch=16 does not divide images of 24×36; use patch=12"
  with pytest.raises(UserError, match=r"vit takes images \[n, h, w, c\], not .*\[n, 7\]"):
    vit().init(KEY, np.zeros((2, 7), np.float32))
