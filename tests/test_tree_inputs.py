"""Inputs that are trees of arrays, from encoders to a loaded run; frozen encoders and heads per token."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen, nnx

import contrastax
from contrastax import data, encoders, evaluation, methods, temperatures, training, views
from contrastax.core import UserError
from contrastax.terms import Contrast

DRAW = np.random.default_rng(0)
X = {
  "image": DRAW.integers(0, 256, (20, 4, 4, 1), np.uint8),
  "more": {"vector": DRAW.normal(size=(20, 3)).astype(np.float32)},
}


class Joined(nnx.Module):
  """A linear map of all leaves, flattened; returns a mapping."""

  def __init__(self, x, rngs):
    size = sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(x))
    self.linear = nnx.Linear(size, 6, rngs=rngs)

  def __call__(self, x):
    flat = [leaf.reshape(len(leaf), -1) for leaf in jax.tree.leaves(x)]
    y = self.linear(jnp.concatenate(flat, -1))
    return {"embedding": y, "tokens": jnp.stack([y, -y], 1)}


class LinenJoined(linen.Module):
  @linen.compact
  def __call__(self, x):
    flat = [leaf.reshape(len(leaf), -1) for leaf in jax.tree.leaves(x)]
    return linen.Dense(6)(jnp.concatenate(flat, -1))


def flat(x):
  image = np.float32(x["image"].reshape(len(x["image"]), -1)) / 255
  return np.concatenate([image, x["more"]["vector"]], -1)


@pytest.mark.parametrize("kind", ["nnx", "linen"])
def test_an_encoder_of_a_tree(kind):
  encoder = {
    "nnx": encoders.from_nnx(Joined), "linen": encoders.from_linen(LinenJoined())
  }[kind]  # fmt: skip
  params, state = encoder.init(jax.random.key(0), X)
  found = evaluation.embed(encoder, params, state, X, batch_size=8)
  kernel, bias = (np.asarray(next(iter(params.values()))[name]) for name in ("kernel", "bias"))
  np.testing.assert_allclose(found, flat(X) @ kernel + bias, rtol=1e-4, atol=1e-5)


def test_chunks_of_a_tree_are_the_whole():
  encoder = encoders.from_nnx(Joined)
  params, state = encoder.init(jax.random.key(0), X)
  floats = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), X)
  whole, _ = encoder.apply(params, state, floats, key=None, train=True)
  parts, _ = encoders.chunked(encoder, 4).apply(params, state, floats, key=None, train=True)
  chex.assert_trees_all_close(parts, whole, rtol=1e-5)


@pytest.mark.parametrize(
  ("inputs", "message"),
  [
    ({**X, "more": {"vector": X["more"]["vector"][:5]}}, r"arrays of equal length, not \[5, 20\]"),
    ({**X, "image": X["image"].astype(np.int32)}, "inputs 'image' must be uint8"),
    ({}, "arrays of one length"),
  ],
)
def test_inputs_that_are_no_set_are_one_line(inputs, message):
  encoder = encoders.from_nnx(Joined)
  params, state = encoder.init(jax.random.key(0), X)
  with pytest.raises(UserError, match=message):
    evaluation.embed(encoder, params, state, inputs)


def test_a_run_on_several_fields_is_loaded_and_used(tmp_path):
  encoder = encoders.from_nnx(Joined)
  method = methods.SimCLR(
    encoder=encoder, projection=encoders.projection((8,), 4), input=("image", "more"),
    views=views.unchanged(), temperature=temperatures.fixed(0.5),
  )  # fmt: skip
  source = data.Resident({**X, "label": np.arange(20) % 2}, batch_size=10)
  state = training.train(method, optax.adam(1e-2), source, steps=3, workdir=tmp_path)
  with pytest.raises(
    UserError, match=r"was trained from code; pass the encoder of its method .* load\(wor"
  ):
    contrastax.load(tmp_path)
  run = contrastax.load(tmp_path, encoder=encoder)
  expected = evaluation.embed(encoder, state.params["encoder"], state.state["encoder"], X)
  np.testing.assert_array_equal(run(X), expected)
  assert run.step == 3
  for wrong, message in {
    "a mapping": ({"image": X["image"]}, r"takes a mapping of \['image', 'more'\] for inputs, not"),
    "an array": (X["image"], "takes a mapping of"),
    "a shape": ({**X, "image": X["image"][..., 0]}, r"takes images \[n, 4, 4, 1\].*\[\.\.\., None"),
  }.values():
    with pytest.raises(UserError, match=message):
      run(wrong)


def test_a_frozen_encoder_is_not_trained(float64):
  teacher = encoders.mlp((5,))
  params, state = teacher.init(jax.random.key(1), jnp.zeros((4, 3)))
  frozen = encoders.frozen(teacher, params, state)
  none, kept = frozen.init(jax.random.key(2), jnp.zeros((4, 3)))
  assert not jax.tree.leaves(none)
  x = jax.random.normal(jax.random.key(3), (6, 3))
  y, after = frozen.apply((), kept, x, key=None, train=True)
  expected, _ = teacher.apply(params, state, x, key=None, train=False)
  chex.assert_trees_all_equal(y, expected)
  chex.assert_trees_all_equal(after, kept)
  gradient = jax.grad(lambda x: frozen.apply((), kept, x, key=None, train=True)[0].sum())(x)
  assert not gradient.any()


def test_a_teacher_is_donated_with_the_state_and_stays_as_it_is():
  teacher = encoders.mlp((5,))
  params, state = teacher.init(jax.random.key(1), jnp.zeros((4, 4, 4, 1)))
  before = jax.tree.map(np.asarray, params)
  method = methods.Siamese(
    encoder=encoders.frozen(teacher, params, state), projection=encoders.projection((8,), 4),
    views=views.affine_jitter(), terms=(Contrast(),),
  )  # fmt: skip
  source = data.Resident({"image": X["image"]}, batch_size=10)
  now = training.init(method, optax.sgd(0.1), source.batch(0))
  step = training.make_train_step(method, optax.sgd(0.1))
  for t in range(3):
    now, _ = step(now, source.batch(t))
  chex.assert_trees_all_equal(jax.tree.map(np.asarray, now.state["encoder"]["params"]), before)
  chex.assert_trees_all_equal(jax.tree.map(np.asarray, params), before)


def test_a_head_per_token_is_the_head_on_each_token():
  head = encoders.from_nnx(lambda x, rngs: nnx.Linear(x.shape[-1], 4, rngs=rngs))
  tokens = jax.random.normal(jax.random.key(0), (5, 3, 6))
  each = encoders.per_token(head)
  params, state = each.init(jax.random.key(1), tokens)
  chex.assert_trees_all_equal(params, head.init(jax.random.key(1), tokens[0])[0])
  z, _ = each.apply(params, state, tokens, key=None, train=True)
  for t in range(3):
    alone, _ = head.apply(params, state, tokens[:, t], key=None, train=True)
    np.testing.assert_allclose(z[:, t], alone, rtol=1e-5)
