"""Terms of several vectors for each example, and of negatives that the data give."""

import dataclasses

import all_methods
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from first_steps import DIGITS, PARTS, SOURCE, ran

from contrastax import (
  criteria,
  data,
  encoders,
  losses,
  methods,
  temperatures,
  training,
)
from contrastax.core import Encoder, Pairs, UserError, View
from contrastax.negatives import in_batch, queue
from contrastax.pairwise import unit
from contrastax.relations import Relation
from contrastax.terms import Apply, Contrast, Given


def tokens_of(scale):
  """An encoder with three vectors per example, and one of its own."""

  def apply(params, state, x, *, key=None, train):
    flat = scale * x.reshape(len(x), -1)[:, :24]
    return {"embedding": flat[:, :8], "tokens": flat.reshape(len(x), 3, 8)}, state

  return Encoder(lambda key, x: ((), ()), apply)


@dataclasses.dataclass(frozen=True)
class same_token(Relation):
  """Positive: the same place of the same example in another view."""

  def __call__(self, a, c, similarity):
    same = a["index"] == c["index"]
    return Pairs(same & (a["view"] != c["view"]) & (a["place"] == c["place"]), ~same)


def dense(**how):
  return methods.Siamese(
    encoder=tokens_of(1.0),
    views=all_methods.noise,
    terms=(
      Contrast(
        anchors="encoder.tokens", relation=same_token(), temperature=temperatures.fixed(0.5), **how
      ),
    ),
  )


def test_a_call_that_does_not_fit_the_loss_names_how():
  term = Apply(loss=losses.uniformity, of=("z",), tag="spread")
  z = jnp.eye(4)
  with pytest.raises(UserError) as error:
    term((), (), {"z": {0: z, 1: z}}, jax.random.key(0))
  assert "'spread' calls its loss with 2 arrays (how='together')" in str(error.value)
  assert "how='each'" in str(error.value)


def test_each_of_several_vectors_is_an_anchor():
  """InfoNCE of every token, in NumPy."""
  value, metrics, seen = ran(dense())
  z = np.concatenate([np.asarray(seen["encoder"][v]["tokens"]).reshape(-1, 8) for v in (0, 1)])
  z /= np.linalg.norm(z, axis=1, keepdims=True)
  index = np.tile(np.repeat(np.arange(32), 3), 2)
  place = np.tile(np.arange(3), 64)
  logits = z @ z.T / 0.5
  positive = np.arange(192) ^ 0
  positive = (np.arange(192) + 96) % 192
  assert (index[positive] == index).all() and (place[positive] == place).all()
  other = index[:, None] != index
  own = logits[np.arange(192), positive]
  expected = np.log(np.exp(own) + (np.exp(logits) * other).sum(1)) - own
  assert value == pytest.approx(expected.mean(), rel=1e-5)
  assert metrics["negatives"] == 2 * 31 * 3


def test_the_mean_may_leave_out_anchors_without_a_positive():
  @dataclasses.dataclass(frozen=True)
  class first_token(same_token):
    def __call__(self, a, c, similarity):
      found = super().__call__(a, c, similarity)
      return Pairs(found.positive & (a["place"] == 0), found.negative)

  def of(average):
    term = dataclasses.replace(dense().terms[0], relation=first_token(), average=average)
    return ran(dataclasses.replace(dense(), terms=(term,)))[0]

  assert of("with positives") == pytest.approx(3 * of("all"), rel=1e-5)


@pytest.mark.parametrize("average", ["all", "with positives"])
def test_masked_vectors_take_no_part(average):
  """As if they were not there: the value does not depend on them."""

  def method(scale):
    inner = tokens_of(1.0)

    def apply(params, state, x, **how):
      y, state = inner.apply(params, state, x, **how)
      mask = jnp.arange(3) < 2
      tokens = jnp.where(mask[:, None], y["tokens"], scale * y["tokens"][..., ::-1] + scale)
      return {**y, "tokens": tokens, "mask": jnp.broadcast_to(mask, (len(x), 3))}, state

    term = dataclasses.replace(dense().terms[0], mask="encoder.mask", average=average)
    return dataclasses.replace(dense(), encoder=Encoder(inner.init, apply), terms=(term,))

  assert ran(method(1.0))[0] == pytest.approx(ran(method(-3.0))[0], rel=1e-6)


def test_vectors_of_one_example_have_rows_of_their_own():
  """With rows=3 every place has its own temperature; with rows=1 those of an example share one."""
  for rows in (1, 3):
    term = dataclasses.replace(
      dense().terms[0], temperature=temperatures.individual(0.5), loss=criteria.sogclr(), rows=rows
    )
    method = dataclasses.replace(dense(), terms=(term,), examples=256)
    state = training.init(method, optax.sgd(0.1), SOURCE.batch(0))
    state, _ = training.make_train_step(method, optax.sgd(0.1))(state, SOURCE.batch(0))
    index = np.asarray(SOURCE.batch(0)["index"])
    tau = term.temperature.each(state.state["terms"]["contrast"]["temperature"])
    tau = np.asarray(tau).reshape(rows, 256)
    assert (tau[:, index] != 0.5).all()
    assert (np.delete(tau, index, axis=1) == 0.5).all()
    if rows == 3:
      assert (tau[0, index] != tau[1, index]).all()


def test_sides_of_views_reach_the_relation():
  """A recipe's side is what a relation reads, by its view."""
  seen_sides = []

  def recipe(key, x, index):
    return View(all_methods.noise(key, x, index), {"number": index * 10})

  @dataclasses.dataclass(frozen=True)
  class reads(Relation):
    def __call__(self, a, c, similarity):
      seen_sides.append(set(a))
      return Pairs(
        (a["number"] == c["number"]) & (a["view"] != c["view"]), a["index"] != c["index"]
      )

  term = Contrast(sides=("number",), relation=reads(), temperature=temperatures.fixed(0.2))
  given = {**PARTS, "views": recipe}
  value, _, _ = ran(methods.Siamese(**given, terms=(term,)))
  plain, _, _ = ran(methods.SimCLR(**PARTS, temperature=temperatures.fixed(0.2)))
  assert value == pytest.approx(plain, rel=1e-6)
  assert all("number" in names for names in seen_sides)
  missing = dataclasses.replace(term, sides=("box",))
  with pytest.raises(UserError, match="sides: neither view 0 nor the batch has 'box'"):
    ran(methods.Siamese(**given, terms=(missing,)))


def test_an_example_of_weight_zero_is_no_candidate():
  """The data's array `weight` multiplies both weights of a key, in the batch and in a queue."""
  weight = np.ones(256, np.float32)
  weight[np.asarray(SOURCE.batch(0)["index"])[:4]] = 0
  weighted = data.Resident({**DIGITS, "weight": weight}, batch_size=32)
  for negatives in (in_batch(), in_batch() + queue(128)):
    method = methods.SimCLR(**PARTS, negatives=negatives)
    _, metrics, _ = ran(method, weighted.batch(0))
    # Of 31 other examples 4 are left out, or 3 for these themselves; they count as 0 negatives.
    assert metrics["negatives"] == pytest.approx((28 * 2 * 27 + 4 * 2 * 28) / 32)


# Given negatives.


def pairs(**how):
  return methods.Pairs(
    encoder=encoders.mlp((16,)), projection=encoders.projection((16,), 8),
    inputs=("x", "y"), temperature=temperatures.fixed(0.3), **how,
  )  # fmt: skip


def pair_batch():
  draw = np.random.default_rng(0)
  fields = {name: jnp.asarray(draw.normal(size=(6, 5)), jnp.float32) for name in ("x", "y")}
  negative = jnp.asarray(draw.normal(size=(6, 2, 5)), jnp.float32)
  own = jnp.asarray([[1, 7], [2, 8], [3, 9], [4, 10], [5, 11], [0, -1]], jnp.int32)
  return {**fields, "hard": negative, "hard_index": own, "index": jnp.arange(6)}


@pytest.mark.parametrize("per_anchor", [False, True])
@pytest.mark.parametrize("known", [False, True])
def test_pairs_with_given_negatives_in_numpy(per_anchor, known):
  method = pairs(
    negative="hard", negative_index="hard_index" if known else None, per_anchor=per_anchor
  )
  value, _, seen = ran(method, pair_batch())
  a, p = (np.asarray(seen[name][v]) for name, v in (("anchor", 0), ("positive", 1)))
  hard = np.asarray(seen["negative"])
  cosine = lambda x, y: np.asarray(unit(x) @ unit(y).T) / 0.3  # noqa: E731
  to_keys, to_hard = cosine(a, p), cosine(a, hard.reshape(12, -1))
  counted = np.ones((6, 12), bool)
  if per_anchor:
    counted = np.repeat(np.eye(6, dtype=bool), 2, axis=1)
  if known:
    index = np.asarray(pair_batch()["hard_index"]).reshape(-1)
    counted &= (index != np.arange(6)[:, None]) & (index >= 0)
  total = np.exp(to_keys).sum(1) + (np.exp(to_hard) * counted).sum(1)
  expected = (np.log(total) - np.diag(to_keys)).mean()
  assert value == pytest.approx(expected, rel=1e-5)


def test_one_anchor_has_k_positives():
  batch = {**pair_batch(), "y": jnp.stack([pair_batch()["y"], pair_batch()["x"]], 1)}
  value, metrics, seen = ran(pairs(positives=2), batch)
  a = np.asarray(seen["anchor"][0])
  p = np.concatenate([np.asarray(seen["positive"][v]) for v in (1, 2)])
  logits = np.asarray(unit(a) @ unit(p).T) / 0.3
  own = np.stack([logits[np.arange(6), np.arange(6)], logits[np.arange(6), 6 + np.arange(6)]])
  expected = np.log(np.exp(logits).sum(1)) - own.mean(0)
  assert value == pytest.approx(expected.mean(), rel=1e-5)
  assert metrics["negatives"] == 10


def test_two_towers_have_parameters_of_their_own():
  method = pairs(other_encoder=encoders.mlp((16,)), other_projection=encoders.projection((16,), 8))
  params, _ = jax.jit(method.init)(jax.random.key(0), pair_batch())
  assert {"encoder", "projection", "other_encoder", "other_projection"} <= set(params)
  with pytest.raises(UserError, match="other_projection needs other_encoder"):
    pairs(other_projection=encoders.projection())


def test_given_vectors_of_one_for_each_example():
  term = Contrast(
    anchors="z.0", keys="z.1", given=(Given("z.2"),), temperature=temperatures.fixed(0.3)
  )
  towers = tuple(
    methods.Tower(tag=name, input=name, encoder=encoders.mlp((8,))) for name in ("x", "y", "w")
  )
  batch = {**pair_batch(), "w": pair_batch()["hard"][:, 0]}
  value, metrics, _ = ran(methods.Towers(towers=towers, terms=(term,)), batch)
  assert np.isfinite(value) and metrics["negatives"] == 5 + 6
