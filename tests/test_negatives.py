"""Selections among negatives, and shuffles of modalities."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastax import criteria, losses
from contrastax.core import Compare, Group, UserError
from contrastax.negatives import (
  bank,
  hardest,
  hardest_only,
  hardest_share,
  in_batch,
  mochi,
  on_arrays,
  queue,
  queues,
  rng_per_vector,
  shuffles,
)
from contrastax.pairwise import Plan, cosine
from contrastax.relations import negatives_differ, same_example, same_label

rng = np.random.default_rng(0)


def group(n, d=5, **side):
  weight = np.ones(n)
  sides = {
    "index": np.arange(n),
    "view": np.zeros(n, int),
    "as_positive": weight,
    "as_negative": weight,
  }
  return Group(rng.normal(size=(n, d)), {**sides, **side})


def cosines(a, b):
  a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
  return a @ b.T


@pytest.mark.parametrize("plan", [Plan("dense"), Plan(4)], ids=["dense", "tiles"])
def test_the_hardest_are_the_most_similar_negatives_of_all_groups(float64, plan):
  anchors = group(9, label=np.arange(9) % 3)
  queue = group(7, label=np.arange(7) % 3, index=np.full(7, -1))
  choose = functools.partial(hardest, relation=same_label(), same_set=True, plan=plan)
  found = jax.jit(choose, static_argnums=2)(anchors, (anchors, queue), 3)
  vectors = np.concatenate([anchors.vectors, queue.vectors])
  label = np.concatenate([anchors.side["label"], queue.side["label"]])
  s = np.where(anchors.side["label"][:, None] == label, -np.inf, cosines(anchors.vectors, vectors))
  expected = np.argsort(-s, axis=1)[:, :3]
  np.testing.assert_array_equal(found.vectors, vectors[expected])
  np.testing.assert_array_equal(found.side["label"], label[expected])
  np.testing.assert_array_equal(found.side["as_negative"], np.ones((9, 3)))


def test_where_there_are_fewer_the_rest_weighs_nothing(float64):
  anchors = group(4)
  choose = functools.partial(hardest, relation=same_example(), same_set=True)
  found = jax.jit(choose, static_argnums=2)(anchors, (anchors,), 6)
  found = jax.tree.map(np.asarray, found)
  np.testing.assert_array_equal(found.side["as_negative"].sum(1), np.full(4, 3))
  assert not found.side["as_negative"][:, 3:].any()


def test_the_chosen_vectors_have_a_gradient_and_the_choice_none(float64):
  anchors = group(4)

  def total(vectors):
    queue = Group(vectors, group(6).side | {"index": np.full(6, -1)})
    return hardest(anchors, (queue,), 2, relation=same_example()).vectors.sum()

  vectors = rng.normal(size=(6, 5))
  chosen = np.argsort(-cosines(anchors.vectors, vectors), axis=1)[:, :2]
  times = np.bincount(chosen.ravel(), minlength=6)
  expected = np.broadcast_to(times[:, None], (6, 5))
  np.testing.assert_array_equal(jax.jit(jax.grad(total))(vectors), expected)


def test_a_set_per_anchor_is_refused():
  anchors = group(4)
  own = Group(np.ones((4, 2, 5)), {name: np.ones((4, 2)) for name in anchors.side})
  with pytest.raises(
    ValueError, match=r"shared candidates \[m, d\], but group 0 is a set per anchor"
  ):
    hardest(anchors, (own,), 1, relation=same_example())


def test_shuffles_are_permutations_all_drawn_apart():
  drawn = np.asarray(shuffles(jax.random.key(0), 3, 50))
  assert drawn.shape == (3, 2, 50)
  np.testing.assert_array_equal(np.sort(drawn, axis=-1), np.broadcast_to(np.arange(50), (3, 2, 50)))
  rows = drawn.reshape(6, 50)
  assert len(np.unique(rows, axis=0)) == 6
  assert (drawn == np.arange(50)).mean() < 0.1


def compared(relation=same_example(), same_set=False, plan=Plan()):
  return Compare(relation, cosine(), (), same_set, plan)


@functools.partial(jax.jit, static_argnums=(0, 1))
def after_steps(source, relation, steps, anchors, keys, key=0):
  """The candidates of a source that has seen the keys of earlier steps."""
  state = source.init(jax.random.key(0), keys, 100)
  for earlier in steps:
    state = source.advance(state, earlier)
  return source.candidates(state, anchors, (keys,), jax.random.key(key), compared(relation))


def with_queue(source, n=4, size=12, steps=3, relation=same_example(), key=0, order=slice(None)):
  """(anchors, groups) of `queue + source` once the queue is full of other examples."""

  def keys_of(step):
    index = np.arange(n) + n * step
    keys = np.random.default_rng(step).normal(size=(n, 5))
    side = {"index": index, "view": np.ones(n, int), "label": index % 3, "made_of": index}
    weights = {"as_positive": np.ones(n), "as_negative": np.zeros(n)}
    return Group(keys, side | weights)

  earlier = [keys_of(step) for step in range(steps)]
  keys = jax.tree.map(lambda x: x[order], keys_of(99))
  anchors = Group(
    2 * keys.vectors[::-1] + keys.vectors, {**keys.side, "view": 0 * keys.side["view"]}
  )
  found = after_steps(queue(size) + source, relation, earlier, anchors, keys, key)
  return jax.tree.map(np.asarray, found)


def test_a_mix_lies_between_two_of_the_hardest_or_one_and_the_anchor(float64):
  anchors, (_, held, mixes) = with_queue(mochi(hard=3, mixed=40, with_anchor=50))
  s = cosines(anchors.vectors, held.vectors)
  unit = held.vectors / np.linalg.norm(held.vectors, axis=1, keepdims=True)
  own = anchors.vectors / np.linalg.norm(anchors.vectors, axis=1, keepdims=True)
  np.testing.assert_allclose(np.linalg.norm(mixes.vectors, axis=-1), 1)
  seen = set()
  for i, hard in enumerate(np.argsort(-s, axis=1)[:, :3]):
    q = np.asarray(unit[hard])
    for at, h in enumerate(np.asarray(mixes.vectors[i])):
      pairs = [(0, 1), (0, 2), (1, 2)] if at < 40 else [(0, 3), (1, 3), (2, 3)]
      ends = np.concatenate([q, own[i : i + 1]])
      found = []
      for pair in pairs:
        weights, rest, *_ = np.linalg.lstsq(ends[list(pair)].T, h)
        if rest[0] < 1e-20 and (weights > 0).all():
          found.append(weights[0] / weights.sum())
          seen.add(pair)
      assert len(found) == 1, (i, at)
      assert at < 40 or found[0] > 0.5  # an anchor's share is below one half
  assert len(seen) == 6


def test_what_mixes_carry_and_weigh(float64):
  _, (_, held, mixes) = with_queue(mochi(hard=5, mixed=8, with_anchor=4))
  np.testing.assert_array_equal(mixes.side["as_negative"], 1)
  np.testing.assert_array_equal(mixes.side["as_positive"], 0)
  np.testing.assert_array_equal(mixes.side["index"], -1)
  assert set(np.unique(mixes.side["made_of"])) <= set(np.unique(held.side["index"]))
  np.testing.assert_array_equal(mixes.side["label"], mixes.side["made_of"] % 3)
  _, (*_, early) = with_queue(mochi(hard=5, mixed=8, with_anchor=4, warmup=4))
  np.testing.assert_array_equal(early.side["as_negative"], 0)
  _, (*_, empty) = with_queue(mochi(hard=5, mixed=8, with_anchor=4), steps=0)
  np.testing.assert_array_equal(empty.side["as_negative"], 0)
  assert np.isfinite(empty.vectors).all()


def test_while_a_queue_fills_mixes_are_made_of_what_there_is(float64):
  _, (_, held, mixes) = with_queue(mochi(hard=12, mixed=30, with_anchor=30), steps=1)
  assert (np.asarray(held.side["as_negative"]) > 0).sum() == 4
  assert set(np.unique(mixes.side["made_of"])) == {0, 1, 2, 3}
  assert (np.linalg.norm(mixes.vectors, axis=-1) > 0.99).all()


def test_false_negatives_that_a_filter_drops_are_not_mixed(float64):
  oracle = same_example() & negatives_differ("label")
  anchors, (*_, mixes) = with_queue(mochi(hard=6, mixed=30, with_anchor=30), relation=oracle)
  assert (mixes.side["label"] != anchors.side["label"][:, None]).all()
  _, (*_, mixes) = with_queue(mochi(hard=6, mixed=30, with_anchor=30))
  assert (mixes.side["label"] == anchors.side["label"][:, None]).any()


def test_a_mix_is_drawn_by_its_example_and_not_by_its_row(float64):
  source = mochi(hard=4, mixed=3, with_anchor=2)
  order = np.array([2, 0, 3, 1])
  # Each anchor is made of its own row and the one opposite, so both are put back together.
  one, (_, held, mixes) = with_queue(source, order=slice(None))
  again = jax.tree.map(lambda x: x[order], one)
  steps = [jax.tree.map(lambda x, s=step: x[4 * s : 4 * s + 4], held) for step in range(3)]
  _, (*_, moved) = after_steps(queue(12) + source, same_example(), steps, again, again)
  np.testing.assert_allclose(moved.vectors, mixes.vectors[order], rtol=1e-12)
  _, (*_, other) = with_queue(source, key=1)
  assert not np.allclose(other.vectors, mixes.vectors)


def test_several_vectors_of_an_example_and_view_draw_apart_by_their_place(float64):
  """Of two equal anchors the mixes are equal, and with different places they are not."""
  held = group(12, index=np.full(12, -1), place=np.full(12, -1))
  one = Group(rng.normal(size=(1, 5)), {name: side[:1] for name, side in held.side.items()})
  twice = jax.tree.map(lambda x: np.repeat(x, 2, 0), one).attach(index=np.array([7, 7]))
  source = mochi(hard=8, mixed=4, with_anchor=4)

  @jax.jit
  def candidates(anchors):
    groups = anchors, held
    return source.candidates({"step": 0}, anchors, groups, jax.random.key(0), compared())

  def mixes(*place):
    _, (*_, made) = candidates(twice.attach(place=np.array(place)))
    return np.asarray(made.vectors)

  first, second = mixes(3, 3)
  np.testing.assert_array_equal(first, second)
  same, other = mixes(3, 4)
  np.testing.assert_array_equal(same, first)
  assert (np.abs(other - first).max(-1) > 1e-3).all()


def test_keys_are_folded_from_example_view_and_place():
  key, side = jax.random.key(0), {"index": jnp.array([5, 5, 2]), "view": jnp.array([0, 1, 0])}

  def folded(*numbers):
    return jax.random.key_data(functools.reduce(jax.random.fold_in, numbers, key))

  found = jax.random.key_data(rng_per_vector(key, side))
  np.testing.assert_array_equal(found, [folded(5, 0), folded(5, 1), folded(2, 0)])
  found = jax.random.key_data(rng_per_vector(key, side | {"place": jnp.array([4, 0, 1])}))
  np.testing.assert_array_equal(found, [folded(5, 0, 4), folded(5, 1, 0), folded(2, 0, 1)])


def test_keys_of_the_batch_are_negatives_of_their_own_weight(float64):
  """The sum of negatives counts each key as often as its weight is."""
  weight = np.array([1.0, 0.5, 0.0, 2.0])
  anchors, keys = group(4), group(4, view=np.ones(4, int), as_negative=np.zeros(4))

  def found(keys):
    _, (found, *_) = in_batch().candidates((), anchors, (keys,), None, compared())
    return found

  np.testing.assert_array_equal(found(keys).side["as_negative"], np.ones(4))
  weighted = found(keys.attach(weight=weight))
  np.testing.assert_array_equal(weighted.side["as_negative"], weight)
  value = criteria.evaluate(
    criteria.dcl(), anchors, (weighted,), relation=same_example(), temperature=0.5
  ).value
  e = np.exp(cosines(anchors.vectors, keys.vectors) / 0.5)
  total = (e * weight).sum(1) - np.diag(e) * weight
  np.testing.assert_allclose(value, np.log(total / np.diag(e)), rtol=1e-12)


@pytest.mark.parametrize("source", [queue(8), queues(8, "label", 1), bank()], ids=str)
def test_what_is_kept_of_earlier_steps_has_its_own_weight(float64, source):
  weight = jnp.array([1.0, 0.5, 0.0, 2.0])
  keys = jax.tree.map(jnp.asarray, group(4, label=np.zeros(4, int))).attach(weight=weight)

  @jax.jit
  def kept(keys):
    state = source.advance(source.init(jax.random.key(0), keys, 8), keys)
    return source.candidates(state, keys, (), jax.random.key(0), compared())

  _, (held,) = jax.tree.map(np.asarray, kept(keys))
  found = {
    int(i): w for i, w in zip(*(held.side[n] for n in ("index", "as_negative")), strict=True)
  }
  assert found == {0: 1.0, 1: 0.5, 2: 0.0, 3: 2.0, -1: 0.0}


def test_a_relation_that_is_none_is_refused():
  anchors = group(4)
  for call in (
    lambda relation: hardest(anchors, (anchors,), 1, relation=relation),
    lambda relation: criteria.evaluate(
      criteria.dcl(), anchors, (anchors,), relation=relation, temperature=0.5
    ),
  ):
    with pytest.raises(UserError, match=r"^same_example is a class; give .* same_example\(\)$"):
      call(same_example)
    for wrong in ("same_example", cosine()):
      with pytest.raises(UserError, match=r"^relation must be .*relations.same_example\(\), not"):
        call(wrong)


def test_mixes_have_no_gradient(float64):
  anchors, (keys, held, _) = with_queue(mochi(hard=4, mixed=3, with_anchor=2))
  source = mochi(hard=4, mixed=3, with_anchor=2)

  def total(own, others):
    groups = keys, Group(others, held.side)
    _, (*_, mixes) = source.candidates(
      {"step": 0}, Group(own, anchors.side), groups, jax.random.key(0), compared()
    )
    return (mixes.vectors**3).sum()

  for gradient in jax.jit(jax.grad(total, (0, 1)))(anchors.vectors, held.vectors):
    np.testing.assert_array_equal(gradient, 0)


@pytest.mark.parametrize(
  ("source", "message"),
  [
    (mochi(hard=5, mixed=2, with_anchor=0), "mixes the keys in a queue"),
    (in_batch() + mochi(hard=5, mixed=2, with_anchor=0), "write queue(…) before it"),
    (queue(4) + mochi(hard=5, mixed=2, with_anchor=0), "5 hardest of 4 candidates"),
    (queue(4) + hardest_only(9), "cannot keep 9 of 8 candidates"),
    (
      queue(8) + mochi(hard=5, mixed=2, with_anchor=0) + hardest_only(2),
      "to the right of the selection",
    ),
  ],
)
def test_sources_that_do_not_fit_say_so_in_one_line(source, message):
  def candidates(keys, key):
    return source.candidates(source.init(key, keys, 9), keys, (keys,), key, compared())

  with pytest.raises(UserError) as raised:
    jax.eval_shape(candidates, group(4), jax.random.key(0))
  assert message in str(raised.value)
  assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
  "wrong",
  [
    lambda: mochi(hard=0, mixed=1, with_anchor=0),
    lambda: mochi(hard=2, mixed=0, with_anchor=0),
    lambda: mochi(hard=2, mixed=1.5, with_anchor=0),
    lambda: hardest_only(0),
    lambda: hardest_share(0),
    lambda: hardest_share(1.1),
  ],
)
def test_numbers_that_make_no_sense_are_refused(wrong):
  with pytest.raises(UserError):
    wrong()


@pytest.mark.parametrize("loss", ["info_nce", "dcl"])
def test_all_negatives_kept_is_the_loss_itself(float64, loss):
  views = group(6, index=np.arange(6) % 3, view=np.arange(6) // 3)
  views = jax.tree.map(jnp.asarray, views)
  criterion = getattr(criteria, loss)()

  def value(source, vectors):
    anchors = Group(vectors, views.side)
    _, groups = source.candidates((), anchors, (anchors,), None, compared(same_set=True))
    return criteria.evaluate(
      criterion, anchors, groups, relation=same_example(), temperature=0.3, same_set=True
    ).value.sum()

  @jax.jit
  def of_each(vectors):
    sources = in_batch(), hardest_only(4), hardest_share(1.0)
    return [jax.value_and_grad(value, 1)(source, vectors) for source in sources]

  expected, *others = of_each(views.vectors)
  for found in others:
    chex.assert_trees_all_close(found, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("alpha", "kept"), [(0.1, [3, 1]), (1 / 3, [10, 2]), (0.5, [15, 3])])
def test_a_share_is_of_each_anchors_own_negatives(float64, alpha, kept):
  """Of 30 and of 6: rounded up, but 0.1 · 30 is 3."""
  anchors = group(2, label=np.array([0, 1]))
  held = group(36, label=np.repeat([1, 0], [30, 6]), index=np.full(36, -1))
  keys = anchors.attach(as_negative=np.zeros(2))

  @jax.jit
  def candidates(keys, held):
    source, groups = hardest_share(alpha), (keys, held)
    return source.candidates((), keys, groups, None, compared(same_label()))

  _, (_, found) = candidates(keys, held)
  np.testing.assert_array_equal((np.asarray(found.side["as_negative"]) > 0).sum(1), kept)


def test_on_plain_arrays_a_source_serves_without_a_method(float64):
  q, k, held = (rng.normal(size=(n, 5)) for n in (4, 4, 9))
  given = {"relation": same_example(), "rng": jax.random.key(0)}

  @functools.partial(jax.jit, static_argnums=0)
  def value(source, *arrays):
    anchors, groups = on_arrays(source, *arrays, **given)
    loss = functools.partial(criteria.evaluate, criteria.info_nce())
    return loss(anchors, groups, relation=same_example(), temperature=0.3).value, groups

  alone = jax.jit(functools.partial(losses.info_nce, temperature=0.3))(q, k)
  for arrays in ((q, k), (q, k, held)):
    own = np.asarray(alone)
    found, _ = value(in_batch(), *arrays)
    if len(arrays) == 3:
      others = np.exp(cosines(q, held) / 0.3).sum(1)
      positive = np.exp(np.diag(cosines(q, k)) / 0.3)
      own = np.log(np.exp(own) + others / positive)
    np.testing.assert_allclose(found, own, rtol=1e-10)
  _, (keys, _, mixes) = value(mochi(hard=3, mixed=2, with_anchor=1), q, k, held)
  assert mixes.vectors.shape == (4, 3, 5) and not keys.side["as_negative"].any()


@pytest.mark.parametrize(
  ("shapes", "message"),
  [
    (((4, 5), (3, 5)), r"must have the same shape [n, d], not (4, 5) and (3, 5)"),
    (((4, 5), (4, 5), (9, 6)), r"negatives must be [m, 5], not (9, 6)"),
  ],
)
def test_arrays_that_do_not_fit_are_refused(shapes, message):
  with pytest.raises(UserError) as raised:
    on_arrays(in_batch(), *map(jnp.ones, shapes), relation=same_example(), rng=jax.random.key(0))
  assert message in str(raised.value)


def test_of_the_hard_set_only_what_is_mixed_is_gathered():
  """Beside the scores, n · hard places and the mixes: never n · hard vectors, let alone the queue's."""
  n, size, d, source = 64, 4096, 64, mochi(hard=1024, mixed=16, with_anchor=4)
  given = {"relation": same_example(), "rng": jax.random.key(0)}

  def mixes(q, k, held):
    return on_arrays(source, q, k, held, **given)[1][-1].vectors

  shapes = [jax.ShapeDtypeStruct((rows, d), jnp.float32) for rows in (n, n, size)]
  memory = jax.jit(mixes).lower(*shapes).compile().memory_analysis()
  assert memory.temp_size_in_bytes < 4 * n * 1024 * d / 2
