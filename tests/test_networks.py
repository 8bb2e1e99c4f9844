"""Net: networks by name within one pure function, and what it keeps."""

import dataclasses

import all_methods
import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastax import data, encoders, methods, networks, training, views
from contrastax.core import Encoder, UserError, View, embedding_of
from contrastax.networks import Net, Owner
from contrastax.paths import embedding, part, pick

X = jax.random.normal(jax.random.key(0), (8, 5))
BATCH = {"index": jnp.arange(8), "x": X}


@dataclasses.dataclass(frozen=True)
class Two(Owner):
  encoder: Encoder = encoders.mlp((4,))
  head: Encoder = encoders.projection((4,), 3)
  momentum: float = 0.9


def begun(body, owner=Two()):
  net = Net(owner, {}, {}, jax.random.key(1), starting=True)
  body(net)
  return net


def again(body, net, owner=Two()):
  net = Net(owner, net.params, net.state, jax.random.key(2))
  return net, body(net)


def test_a_body_draws_the_parameters_that_its_networks_draw_alone():
  net = begun(lambda net: net("head", net("encoder", X)))
  owner, key = Two(), jax.random.key(1)
  params, state = owner.encoder.init(networks.named(key, "encoder"), X)
  chex.assert_trees_all_equal(net.params["encoder"], params)
  chex.assert_trees_all_equal(net.state["encoder"], state)
  assert set(net.params) == {"encoder", "head"}


def test_views_of_one_shape_pass_together_and_return_in_order():
  def body(net):
    return net("encoder", {0: X, 1: 2 * X, 5: X[:, ::-1]})

  net, found = again(body, begun(body))
  params, state = net.params["encoder"], begun(body).state["encoder"]
  joint, after = Two().encoder.apply(
    params, state, jnp.concatenate([X, 2 * X, X[:, ::-1]]), key=None, train=True
  )
  chex.assert_trees_all_equal([found[0], found[1], found[5]], list(jnp.split(joint, 3)))
  chex.assert_trees_all_equal(net.state["encoder"], after)


def test_rows_that_refer_to_rows_pass_view_by_view():
  """An encoder that subtracts its batch's mean tells whether views were concatenated."""

  def apply(params, state, x, *, key=None, train):
    return x - x.mean(0), state

  def of(together):
    encoder = Encoder(lambda key, x: ((), ()), apply, together)
    net = Net(Two(encoder=encoder), {"encoder": ()}, {"encoder": ()}, jax.random.key(0))
    return net("encoder", {0: X, 1: X + 1})

  apart, joint = of(False), of(True)
  chex.assert_trees_all_close(apart[0], X - X.mean(0), atol=1e-6)
  chex.assert_trees_all_close(apart[1], apart[0], atol=1e-6)
  chex.assert_trees_all_close(joint[1], X + 1 - (X.mean(0) + 0.5), atol=1e-6)


def test_a_target_begins_as_a_copy_and_follows():
  def body(net):
    return net("encoder", X), net.target("encoder", X)

  start = begun(body)
  chex.assert_trees_all_equal(start.state["target"]["params"]["encoder"], start.params["encoder"])
  params = dict(start.params)
  moved = jax.tree.map(lambda p: p + 1, params)
  state = networks.advance(Two(), moved, start.state, jnp.int32(0))
  expected = jax.tree.map(lambda a, b: 0.9 * a + 0.1 * b, params, moved)
  chex.assert_trees_all_close(
    state["target"]["params"]["encoder"], expected["encoder"], rtol=1e-6, atol=1e-6
  )

  def through_target(params):
    net = Net(Two(), params, start.state, jax.random.key(2))
    net("encoder", X)
    return net.target("encoder", X).sum()

  gradient = jax.grad(through_target)(dict(start.params))
  assert all(not leaf.any() for leaf in jax.tree.leaves(gradient))


def test_a_target_without_momentum_is_refused():
  with pytest.raises(UserError, match="Two applies a moving average of encoder, so it needs mom"):
    begun(lambda net: (net("encoder", X), net.target("encoder", X)), Two(momentum=None))


@pytest.mark.parametrize("name", all_methods.parts())
def test_initialization_leaves_the_state_as_begun(name):
  """A state that had taken in a batch would differ between two batches."""
  method = all_methods.parts()[name]
  found = data.load("digits").train
  source = data.Resident(all_methods.seen_by(name, found), batch_size=128)
  init = jax.jit(method.init)
  (params, one), (_, other) = (init(jax.random.key(0), source.batch(step)) for step in (0, 1))
  chex.assert_trees_all_equal(one, other)
  objective = jax.jit(method.objective)
  after = objective(params, one, source.batch(0), jax.random.key(1))[1][0]
  kept = [k for k in one if jax.tree.leaves(one[k]) and k != "step"]
  assert any(
    (np.asarray(a) != np.asarray(b)).any()
    for k in kept
    for a, b in zip(jax.tree.leaves(one[k]), jax.tree.leaves(after[k]), strict=True)
  )


def test_state_and_seen_are_read_only():
  net = begun(lambda net: net("encoder", X))
  for mapping in (net.state, net.params, net.seen, net.seen["encoder"]):
    with pytest.raises(TypeError, match="does not support item assignment"):
      mapping["encoder"] = 1


def test_keep_changes_the_state_of_a_step_and_not_that_of_initialization():
  def body(net):
    count = net.begun("count", lambda: jnp.int32(0))
    net.keep("count", count + 1)

  start = begun(body)
  assert start.state["count"] == 0
  assert again(body, start)[0].state["count"] == 1


def test_frozen_parameters_have_no_gradient():
  def body(net, frozen):
    net.freeze("encoder", frozen)
    return net("encoder", X).sum()

  start = begun(lambda net: net("encoder", X))

  def objective(params, frozen):
    return body(Net(Two(), params, start.state, jax.random.key(2)), frozen)

  still = jax.grad(objective)(dict(start.params), jnp.asarray(True))
  assert not any(leaf.any() for leaf in jax.tree.leaves(still))
  moving = jax.grad(objective)(dict(start.params), jnp.asarray(False))
  assert any(leaf.any() for leaf in jax.tree.leaves(moving))


def test_two_calls_of_one_network_draw_different_numbers():
  def apply(params, state, x, *, key=None, train):
    return x + jax.random.normal(key, x.shape), state

  owner = Two(encoder=Encoder(lambda key, x: ((), ()), apply))
  net = Net(owner, {"encoder": ()}, {"encoder": ()}, jax.random.key(0))
  first, second = net("encoder", X), net("encoder", X)
  assert np.abs(first - second).min() > 0
  chex.assert_trees_all_equal(
    first, Net(owner, {"encoder": ()}, {"encoder": ()}, jax.random.key(0))("encoder", X)
  )


def test_views_keep_what_recipes_tell_of_them():
  def recipe(key, x, index):
    return View(2 * x, {"doubled": index > 3})

  def body(net):
    return net.views((recipe, views.unchanged()), BATCH, "x", first=3)

  net = begun(body)
  assert set(net.seen["view"]) == {3, 4}
  chex.assert_trees_all_equal(net.seen["view"][3], 2 * X)
  chex.assert_trees_all_equal(pick(net.seen, "side.3.doubled")[3], jnp.arange(8) > 3)


def test_views_of_several_fields_are_a_mapping():
  batch = {**BATCH, "more": {"a": X, "b": X[:, :2]}}
  net = begun(lambda net: net.views((views.unchanged(),), batch, ("x", "more")))
  chex.assert_trees_all_equal(net.seen["view"][0], {"x": X, "more": batch["more"]})


def test_paths():
  seen = {
    "projection": {0: 1, 1: 2},
    "encoder": {0: {"tokens": 3}, 1: {"tokens": 4}},
    "target": {"projection": {1: 5}},
    "batch": {"label": 6},
  }
  assert pick(seen, "projection") == {0: 1, 1: 2}
  assert pick(seen, "projection.1") == {1: 2}
  assert pick(seen, "encoder.tokens") == {0: 3, 1: 4}
  assert pick(seen, "encoder.1.tokens") == {1: 4}
  assert pick(seen, "target.projection") == {1: 5}
  assert pick(seen, "batch.label") == {None: 6}
  for path, message in {
    "projektion": "the path 'projektion' names nothing: no 'projektion'; did you mean 'projection'?",
    "projection.7": "no 7",
    "encoder.token": "no 'token'; did you mean 'tokens'?",
  }.items():
    with pytest.raises(UserError, match=message.replace("?", r"\?")):
      pick(seen, path)


def test_the_embedding_of_an_encoder_with_several_outputs():
  outputs = {0: {"embedding": X, "tokens": X}, 1: {"embedding": 2 * X, "tokens": X}}
  chex.assert_trees_all_equal(embedding(outputs), {0: X, 1: 2 * X})
  chex.assert_trees_all_equal(embedding({0: X}), {0: X})
  chex.assert_trees_all_equal(embedding_of(outputs[1]), 2 * X)
  with pytest.raises(UserError, match="the encoder returns no 'token'; did you mean 'tokens'?"):
    part(outputs, "token")
  with pytest.raises(UserError, match="the encoder returns an array, not a mapping with 'tokens'"):
    part(X, "tokens")


@pytest.mark.parametrize(
  ("changed", "message"),
  [
    (
      {"encoder": 3},
      r"encoder must be a core.Encoder, such as encoders.mlp\(\(64,\)\), .*from_nnx.*, not 3",
    ),
    ({"input": "imag"}, "SimCLR: there is no field 'imag'; did you mean 'image'?"),
    (
      {"views": "flip"},
      "SimCLR: views must be a recipe, or a tuple of one recipe per view, not 'flip'",
    ),
  ],
)
def test_what_a_method_cannot_encode_is_one_line(changed, message):
  method = all_methods.parts()["SimCLR"]
  batch = data.Resident(data.load("digits").train, batch_size=32).batch(0)
  import optax

  with pytest.raises(UserError, match=message) as error:
    training.init(dataclasses.replace(method, **changed), optax.sgd(0.1), batch)
  assert "\n" not in str(error.value)


def test_two_terms_of_one_name_are_refused():
  from contrastax.terms import Contrast

  with pytest.raises(UserError, match="two terms are called 'contrast'; give one of them another"):
    methods.SimCLR(
      encoder=encoders.mlp((4,)),
      projection=encoders.projection(),
      views=views.affine_jitter(),
      terms=(Contrast(),),
    )


def test_vectors_carry_what_a_batch_of_numpy_arrays_has():
  method = all_methods.parts()["SimCLR"]
  batch = data.Resident(data.load("digits").train, batch_size=32).batch(0)
  params, state = method.init(jax.random.key(0), batch)
  of_numpy = jax.tree.map(np.asarray, batch)
  (one, _, _), (other, _, _) = (
    method.main.groups(method.seen(params, state, each, jax.random.key(1)))
    for each in (batch, of_numpy)
  )
  chex.assert_trees_all_equal(one.side, other.side)
