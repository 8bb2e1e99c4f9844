"""Chunked encoders: the whole batch's gradient, in a part of its memory, on any number of devices.

Run as a script, this file measures the last of these on eight devices: see `devices`.
"""

import functools
import json
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import processes
import pytest
from flax import nnx

from contrastax import losses, training
from contrastax.core import Encoder, Method, UserError
from contrastax.encoders import chunked, from_nnx, mlp
from contrastax.encoders.batch_norm import BatchNorm
from contrastax.parts import assemble
from contrastax.training.optimizers import sgd

KEY = jax.random.key(3)


def normal(*shape, seed=0):
  return np.random.default_rng(seed).standard_normal(shape)


def network(*, drop=0.0, norm=False):
  """Linear, perhaps BatchNorm, tanh, perhaps Dropout, linear; from any width over 40 to 12."""

  def build(x, rngs):
    layers = [nnx.Linear(x.shape[-1], 40, rngs=rngs)]
    layers += [BatchNorm(40, rngs)] if norm else []
    layers += [jnp.tanh]
    layers += [nnx.Dropout(drop, rngs=rngs)] if drop else []
    return nnx.Sequential(*layers, nnx.Linear(40, 12, rngs=rngs))

  return from_nnx(build)


def start(encoder, x):
  """Parameters, a temperature among them, and state, all float64."""
  params, state = encoder.init(jax.random.key(0), x)
  params = {"encoder": params, "log_tau": jnp.log(0.3)}
  return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), (params, state))


def nt_xent(params, z):
  half = len(z) // 2
  tau = jnp.exp(params["log_tau"])
  return losses.nt_xent(z[:half], z[half:], temperature=tau).mean()


@functools.partial(jax.jit, static_argnums=0)
def gradient(apply, params, state, x, key=None):
  """(value, next state), and the gradient by parameters, temperature and input."""

  def objective(params, x):
    z, after = apply(params["encoder"], state, x, key=key, train=True)
    return nt_xent(params, z), after

  return jax.value_and_grad(objective, (0, 1), has_aux=True)(params, x)


def by_hand(encoder, n):
  """`apply` on the same chunks as a plain loop, without recomputation."""

  def apply(params, state, x, *, key, train):
    z = jnp.zeros((len(x), 12))
    for i in range(n):
      own = None if key is None else jax.random.fold_in(key, i)
      rows, state = encoder.apply(params, state, x[i::n], key=own, train=train)
      z = z.at[i::n].set(rows)
    return z, state

  return apply


def same(a, b):
  chex.assert_trees_all_close(a, b, rtol=0, atol=1e-12)


def apart(a, b):
  return max(jax.tree.leaves(jax.tree.map(lambda a, b: float(np.abs(a - b).max()), a, b)))


# The gradient.


@pytest.mark.parametrize("n", [1, 4, 24])
def test_the_gradient_is_that_of_the_whole_batch(float64, n):
  encoder, x = network(), normal(24, 9)
  params, state = start(chunked(encoder, n), x)
  whole = gradient(encoder.apply, params, state, x)
  assert all(np.abs(leaf).max() > 1e-3 for leaf in jax.tree.leaves(whole[1]))
  same(gradient(chunked(encoder, n).apply, params, state, x), whole)


def test_with_dropout_it_is_that_of_a_loop_over_the_chunks(float64):
  encoder, x = network(drop=0.5), normal(24, 9)
  params, state = start(encoder, x)
  apply = by_hand(encoder, 4)
  found = gradient(chunked(encoder, 4).apply, params, state, x, KEY)
  same(found, gradient(apply, params, state, x, KEY))
  assert apart(found, gradient(apply, params, state, x, jax.random.key(4))) > 1e-2


def test_other_masks_in_the_recomputation_would_be_found_out(float64):
  """The paper's algorithm in two passes: what chunked is, if both draw the same masks."""
  encoder, x = network(drop=0.5), normal(24, 9)
  params, state = start(encoder, x)
  apply = by_hand(encoder, 4)

  @jax.jit
  def cached(first, second):
    z, _ = apply(params["encoder"], state, x, key=first, train=True)
    by_params, by_z = jax.grad(nt_xent, (0, 1))(params, z)
    _, pull = jax.vjp(lambda p: apply(p, state, x, key=second, train=True)[0], params["encoder"])
    return {**by_params, "encoder": pull(by_z)[0]}

  (by_params, _) = gradient(chunked(encoder, 4).apply, params, state, x, KEY)[1]
  same(by_params, cached(KEY, KEY))
  assert apart(by_params, cached(KEY, jax.random.key(4))) > 1e-2


def test_one_chunk_is_the_encoder_with_a_folded_key(float64):
  encoder, x = network(drop=0.5, norm=True), normal(8, 5)
  params, state = start(encoder, x)
  one = chunked(encoder, 1, batch_norm="per chunk")
  found = gradient(one.apply, params, state, x, KEY)
  same(found, gradient(encoder.apply, params, state, x, jax.random.fold_in(KEY, 0)))


def test_no_key_is_made_up():
  encoder, x = network(drop=0.5), normal(8, 5)
  params, state = encoder.init(KEY, x)
  with pytest.raises(ValueError, match="pass a key to apply"):
    chunked(encoder, 2).apply(params, state, x, train=True)


# The memory.


def test_the_memory_of_activations_falls_by_about_n():
  def build(x, rngs):
    hidden = [(nnx.Linear(64, 64, rngs=rngs), jax.nn.gelu) for _ in range(16)]
    return nnx.Sequential(
      *[layer for pair in hidden for layer in pair], nnx.Linear(64, 8, rngs=rngs)
    )

  encoder, x = from_nnx(build), jax.ShapeDtypeStruct((4096, 64), jnp.float32)
  params, state = jax.eval_shape(encoder.init, KEY, x)

  def temporaries(encoder):
    def objective(params, x):
      return (encoder.apply(params, state, x, train=True)[0] ** 2).sum()

    compiled = jax.jit(jax.value_and_grad(objective)).lower(params, x).compile()
    return compiled.memory_analysis().temp_size_in_bytes

  assert temporaries(chunked(encoder, 8)) < temporaries(encoder) / 5  # measured: 6.75


# The rows.


def test_chunk_i_is_every_nth_row_from_i_and_the_order_is_kept():
  def apply(params, state, x, *, key, train):
    return {"row": x["row"], "first": x["row"] * 0 + x["row"][0], "wide": x["image"] + 1}, state

  encoder = chunked(Encoder(lambda key, x: ((), ()), apply), 3)
  x = {"row": jnp.arange(12), "image": normal(12, 2, 5).astype(np.float32)}
  z, state = encoder.apply((), (), x, key=KEY, train=True)
  assert state == ()
  expected = {"row": x["row"], "first": x["row"] % 3, "wide": x["image"] + 1}
  chex.assert_trees_all_equal(z, jax.tree.map(jnp.asarray, expected))


def test_inputs_of_different_lengths_are_refused():
  encoder = chunked(Encoder(lambda key, x: ((), ()), lambda p, s, x, **_: (x, s)), 2)
  with pytest.raises(UserError, match=r"chunked: all inputs of a batch .*, not \[4, 6\]"):
    encoder.apply((), (), {"a": jnp.ones(4), "b": jnp.ones(6)}, train=True)


# BatchNorm.


def test_batch_norm_per_chunk_is_the_chunks_by_hand(float64):
  encoder, x = network(norm=True), 1 + normal(24, 9)
  params, state = start(encoder, x)
  found = gradient(chunked(encoder, 4, batch_norm="per chunk").apply, params, state, x)
  same(found, gradient(by_hand(encoder, 4), params, state, x))
  (value, after), _ = found
  (whole, after_whole), _ = gradient(encoder.apply, params, state, x)
  assert abs(value - whole) > 1e-3 and apart(after, after_whole) > 1e-2


@pytest.mark.parametrize("said", [None, "per chunk"])
def test_in_evaluation_it_is_the_plain_encoder_for_any_batch(said):
  encoder, x = network(drop=0.5, norm=True), normal(7, 5).astype(np.float32)
  params, state = encoder.init(KEY, x)
  found = chunked(encoder, 4, batch_norm=said).apply(params, state, x, train=False)
  chex.assert_trees_all_equal(found, encoder.apply(params, state, x, train=False))


# What is refused.


def refused(call, *arguments, **named):
  with pytest.raises(UserError) as error:
    call(*arguments, **named)
  assert "\n" not in str(error.value)
  return str(error.value)


def test_an_encoder_with_state_is_refused():
  encoder, x = chunked(mlp((4,)), 2), normal(6, 5)
  params, state = mlp((4,)).init(KEY, x)
  message = refused(encoder.init, KEY, x)
  assert 'use chunked(encoder, 2, batch_norm="per chunk")' in message
  assert refused(encoder.apply, params, state, x, train=True) == message
  chex.assert_trees_all_equal(
    chunked(mlp((4,)), 2, batch_norm="per chunk").init(KEY, x), (params, state)
  )


@pytest.mark.parametrize("b, n, fix", [(30, 4, "n=3 or n=5"), (7, 4, "n=1 or n=7"), (2, 4, "n=2")])
def test_a_batch_that_cannot_be_divided_is_refused(b, n, fix):
  encoder, x = chunked(network(), n), normal(b, 5)
  params, state = encoder.init(KEY, x)
  expected = f"chunked: a batch of {b} cannot be divided into n={n} chunks; use {fix}"
  assert refused(encoder.apply, params, state, x, train=True) == expected


@pytest.mark.parametrize("n", [0, -1, 2.0, "4", None], ids=repr)
def test_n_is_a_positive_integer(n):
  assert refused(chunked, mlp((4,)), n) == f"chunked: n must be an integer of at least 1, not {n!r}"


def test_batch_norm_is_per_chunk_or_nothing():
  expected = "chunked: batch_norm must be \"per chunk\" or None, not 'global'"
  assert refused(chunked, mlp((4,)), 2, batch_norm="global") == expected


# The devices.


def contiguous(encoder, n):
  """The mutant: chunk i is the i-th block of rows, which few devices hold."""

  def blocks(x, n):
    return x.reshape(n, -1, *x.shape[1:]).swapaxes(0, 1).reshape(x.shape)

  def apply(params, state, x, *, key, train):
    z, state = encoder.apply(params, state, blocks(x, n), key=key, train=train)
    return blocks(z, len(z) // n), state

  return Encoder(encoder.init, apply)


def compiled(encoder, devices, *arguments):
  mesh = training.make_mesh(jax.devices()[:devices])
  rows, everywhere = training.sharded(mesh), training.mesh.replicated(mesh)
  step = jax.jit(
    lambda params, state, x: gradient(encoder.apply, params, state, x, KEY),
    in_shardings=(everywhere, everywhere, rows),
    out_shardings=((everywhere, everywhere), (everywhere, rows)),
  )
  return step.lower(*arguments).compile()


def moved(text):
  """The shapes with an axis of 96 that a collective of a compiled program gives.

  The inputs are 96 wide, and nothing else is but the first kernel and its gradient.
  """
  kinds = "all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter"
  collectives = re.findall(rf"= (.*) (?:{kinds})(?:-start)?\(", text)
  assert collectives, text
  shapes = {shape for each in collectives for shape in re.findall(r"\[[\d,]*\]", each)}
  kernel = {"[40,96]", "[96,40]"}
  return sorted(shape for shape in shapes - kernel if "96" in re.split(r"\D", shape))


def devices():
  """Prints how far one device is apart from eight, with dropout and BatchNorm, and what moves."""
  encoder = chunked(network(drop=0.5, norm=True), 4, batch_norm="per chunk")
  x = normal(128, 96)
  arguments = (*start(encoder, x), x)
  one, eight = (compiled(encoder, count, *arguments) for count in (1, 8))
  results = [jax.tree.map(np.asarray, program(*arguments)) for program in (one, eight)]
  mutant = compiled(contiguous(encoder, 4), 8, *arguments)
  found = {"moved": moved(eight.as_text()), "mutant": moved(mutant.as_text())}
  print(json.dumps({"apart": apart(*results), **found}))


def test_on_eight_devices_the_result_is_the_same_and_no_input_moves():
  found = processes.measured(__file__)
  assert found["apart"] < 1e-12 and not found["moved"], found
  assert found["mutant"], found


def step_by_config(encoder):
  """The loss and the parameters after one step of a method from a config."""
  spec = {
    "name": "SimCLR",
    "encoder": encoder,
    "projection": {"name": "projection", "widths": (), "out": 4},
    "views": {"name": "unchanged"},
  }
  method, optimizer = assemble(Method, spec, "config.method"), sgd(steps=9, learning_rate=0.1)
  images = normal(8, 8, 8, 1).astype(np.float32)
  batch = {"image": images - images.min(), "index": np.arange(8)}
  batch["image"] /= batch["image"].max()
  state = training.init(method, optimizer, batch)
  state, metrics = training.make_train_step(method, optimizer)(state, batch)
  return metrics["loss"], state.params


def test_a_config_reaches_the_exact_gradient_in_chunks():
  vit = {"name": "vit", "width": 8, "depth": 1, "heads": 2, "patch": 4, "freeze_patches": False}
  found = step_by_config({"name": "chunked", "n": 4, "encoder": vit})
  chex.assert_trees_all_close(found, step_by_config(vit), rtol=1e-4, atol=1e-6)


def test_a_config_with_batch_norm_in_chunks_is_refused_in_one_line():
  convnet = {"name": "convnet", "widths": (4,)}
  with pytest.raises(
    UserError, match="chunked: the encoder has state, such as BatchNorm's"
  ) as error:
    step_by_config({"name": "chunked", "n": 4, "encoder": convnet})
  assert "\n" not in str(error.value) and 'batch_norm="per chunk"' in str(error.value)
  step_by_config({"name": "chunked", "n": 4, "encoder": convnet, "batch_norm": "per chunk"})


if __name__ == "__main__":
  devices()
