"""Sources with a memory: a bank of the data, a queue for each value, clusters found online."""

import dataclasses
import functools
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import processes
import pytest

from contrastax import criteria, losses, methods
from contrastax.core import Compare, Group, UserError
from contrastax.negatives.bank import bank
from contrastax.negatives.clusters import clusters
from contrastax.negatives.queue import queue, queues
from contrastax.negatives.sources import in_batch
from contrastax.pairwise import Plan, cosine
from contrastax.relations import negatives_differ, negatives_share, same_example

D, EXAMPLES = 3, 20


def directions(x):
  return x / np.linalg.norm(x, axis=-1, keepdims=True)


def keys_of(rng, n, d=D, **side):
  sides = {
    "index": rng.integers(0, EXAMPLES, n).astype(np.int32),
    "view": np.ones(n, np.int32),
    "as_positive": np.ones(n),
    "as_negative": np.zeros(n),
    **side,
  }
  sides.setdefault("label", (7 * sides["index"] % 5).astype(np.int32))
  vectors = rng.normal(size=(n, d)) * rng.uniform(0.5, 2, (n, 1))
  return jax.tree.map(jnp.asarray, Group(vectors, sides))


def begun(source, keys, examples=EXAMPLES):
  return source.init(jax.random.key(1), jax.eval_shape(lambda: keys), examples)


@functools.partial(jax.jit, static_argnums=0)
def advanced(source, state, keys):
  return source.advance(state, keys)


def after(source, steps, state=None):
  state = begun(source, steps[0]) if state is None else state
  for keys in steps:
    state = advanced(source, state, keys)
  return state


@functools.partial(jax.jit, static_argnums=0)
def found_by(source, state, anchors, groups, key):
  compare = Compare(same_example(), cosine(), (), False, Plan())
  return source.candidates(state, anchors, groups, key, compare)


def candidates(source, state, anchors, groups=None, key=0):
  return found_by(source, state, anchors, groups or (anchors,), jax.random.key(key))


def said(wrong):
  with pytest.raises(UserError) as raised:
    wrong()
  assert "\n" not in str(raised.value)
  return str(raised.value)


# The bank.


def plain_bank(steps, momentum):
  """{example: (vector, label)}."""
  held = {}
  for keys in steps:
    index, labels = np.asarray(keys.side["index"]), np.asarray(keys.side["label"])
    vectors = directions(np.asarray(keys.vectors))
    for i in set(index[index >= 0].tolist()):
      new = directions(vectors[index == i].mean(0))
      if i in held:
        new = directions(momentum * held[i][0] + (1 - momentum) * new)
      held[i] = new, labels[index == i][0]
  return held


@pytest.mark.parametrize("momentum", [0.5, 0.9, 0])
def test_a_bank_is_a_moving_average_of_each_example(float64, momentum):
  rng = np.random.default_rng(0)
  # Of the first 16 of 20 examples: many twice in a step, with a label that may differ.
  drawn = rng.integers(0, 16, (12, 2, 6)).astype(np.int32)
  steps = [keys_of(rng, 6, index=index, label=label) for index, label in drawn]
  source = bank(momentum=momentum)
  for number in (1, 2, 3, 6, 12):
    _, (_, held) = candidates(source, after(source, steps[:number]), steps[0])
    expected = plain_bank(steps[:number], momentum)
    assert held.vectors.shape == (EXAMPLES, D)
    np.testing.assert_array_equal(held.side["as_positive"], 0)
    np.testing.assert_array_equal(held.side["view"], -1)
    for i in range(EXAMPLES):
      assert held.side["as_negative"][i] == (i in expected)
      if i in expected:
        vector, label = expected[i]
        np.testing.assert_allclose(held.vectors[i], vector, atol=1e-12)
        assert (held.side["index"][i], held.side["label"][i]) == (i, label)


def test_a_bank_does_not_depend_on_the_order_of_a_batch(float64):
  rng = np.random.default_rng(1)
  steps = [keys_of(rng, 8) for _ in range(5)]
  mixed = [jax.tree.map(lambda x, o=rng.permutation(8): x[o], keys) for keys in steps]
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-12),
    after(bank(), steps),
    after(bank(), mixed),
  )


def test_a_sample_is_drawn_anew_of_what_was_visited(float64):
  rng = np.random.default_rng(2)
  index = np.arange(9, dtype=np.int32)
  state = after(bank(), [keys_of(rng, 9, index=index)])
  found = []
  for key in range(40):
    _, (_, held) = candidates(bank(sample=5), state, keys_of(rng, 4), key=key)
    assert held.vectors.shape == (5, D)
    np.testing.assert_array_equal(held.side["as_negative"], 1)
    drawn = np.asarray(held.side["index"])
    np.testing.assert_allclose(held.vectors, state["keys"].vectors[drawn])
    assert len(set(drawn.tolist())) == 5
    found += drawn.tolist()
  counts = np.bincount(found, minlength=EXAMPLES)
  assert counts[9:].sum() == 0
  assert counts[:9].min() >= 12 and counts[:9].max() <= 32  # 22.2 ± 3.1 each
  _, (_, held) = candidates(bank(sample=12), state, keys_of(rng, 4))
  assert held.side["as_negative"].sum() == 9


def test_the_anchors_own_entry_is_left_out(float64):
  rng = np.random.default_rng(3)
  state = after(bank(), [keys_of(rng, EXAMPLES, index=np.arange(EXAMPLES, dtype=np.int32))])
  keys = keys_of(rng, 4, index=np.array([3, 0, 19, 7], np.int32), as_negative=np.zeros(4))
  anchors = keys.attach(view=0 * keys.side["view"])
  anchors, groups = candidates(bank(), state, anchors, (keys,))
  found = criteria.evaluate(
    criteria.info_nce(), anchors, groups, relation=same_example(), temperature=0.3
  )
  table = np.asarray(state["keys"].vectors)
  for row, own in enumerate((3, 0, 19, 7)):
    a, k = (x[row : row + 1] for x in (anchors.vectors, keys.vectors))
    rest = jnp.asarray(np.delete(table, own, 0))
    expected = losses.info_nce(a, k, rest, temperature=0.3)
    np.testing.assert_allclose(found.value[row], expected[0], rtol=1e-12)


def test_an_index_outside_the_table_touches_no_entry(float64):
  rng = np.random.default_rng(4)
  full = [keys_of(rng, EXAMPLES, index=np.arange(EXAMPLES, dtype=np.int32))]
  state = after(bank(), full)
  outside = keys_of(rng, 4, index=np.array([-1, EXAMPLES, 1000, -7], np.int32))
  moved = advanced(bank(), state, outside)
  jax.tree.map(np.testing.assert_array_equal, moved, state)
  # Where the numbers are known, they are refused, but for that of no example.
  assert "0 to 19, or −1 for none, not 20; give the method examples" in said(
    lambda: bank().advance(state, outside)
  )
  none = keys_of(rng, 4, index=np.full(4, -1, np.int32))
  jax.tree.map(np.testing.assert_array_equal, bank().advance(state, none), state)


# Queues.


def plain_queues(steps, size, count, by="label"):
  """For each value the (vector, index) of its last keys."""
  held = [[] for _ in range(count)]
  for keys in steps:
    rows = zip(*map(np.asarray, (keys.vectors, keys.side["index"], keys.side[by])), strict=True)
    for vector, index, value in rows:
      if 0 <= value < count:
        held[value].append((*vector.tolist(), int(index)))
  return [sorted(rows[-size:]) for rows in held]


def held_in(group, size, count):
  found = []
  for value in range(count):
    rows = slice(value * size, (value + 1) * size)
    filled = np.asarray(group.side["as_negative"][rows]) > 0
    parts = zip(group.vectors[rows][filled], group.side["index"][rows][filled], strict=True)
    assert (np.asarray(group.side["label"][rows])[filled] == value).all()
    found.append(sorted((*np.asarray(vector).tolist(), int(index)) for vector, index in parts))
  return found


@pytest.mark.parametrize("size", [1, 3, 7, 50])
def test_each_value_has_the_last_keys_of_its_own(float64, size):
  rng = np.random.default_rng(size)
  # Frequent and rare values, none (−1) and one too many (4); more at once than a queue holds.
  drawn = rng.choice(6, (20, 11), p=[0.1, 0.5, 0.2, 0.1, 0.05, 0.05]).astype(np.int32) - 1
  steps = [keys_of(rng, 11, label=label) for label in drawn]
  source = queues(size, "label", 4)
  for number in (1, 2, 5, 20):
    state = after(source, steps[:number])
    _, (_, group) = candidates(source, state, steps[0])
    assert group.vectors.shape == (4 * size, D)
    assert held_in(group, size, 4) == plain_queues(steps[:number], size, 4)


def test_no_place_of_a_queue_is_written_twice():
  """Of two writes to one place an accelerator may keep either."""
  value = np.array([0, 0, 1, 0, 0, -1, 0, 2, 2, -1, 2, 2], np.int32)
  slot, added = queues(3, "label", 3)._slots(jnp.array([2, 0, 1]), value)
  np.testing.assert_array_equal(slot, [9, 9, 3, 1, 2, 9, 0, 9, 8, 9, 6, 7])
  np.testing.assert_array_equal(added, [5, 1, 4])


def test_a_queue_for_one_value_is_a_queue(float64):
  rng = np.random.default_rng(5)
  steps = [keys_of(rng, 4, label=np.zeros(4, np.int32)) for _ in range(7)]
  one, many = after(queue(12), steps), after(queues(12, "label", 1), steps)
  jax.tree.map(np.testing.assert_array_equal, many["keys"], one["keys"])
  assert many["next"] == one["next"]


def test_with_the_filter_an_anchor_meets_the_queue_of_its_value(float64):
  rng = np.random.default_rng(6)
  steps = [keys_of(rng, 9, index=np.arange(9, dtype=np.int32)) for _ in range(5)]
  source = queues(4, "label", 5)
  keys = keys_of(rng, 5, label=np.array([0, 1, 2, -1, 5], np.int32), index=np.full(5, 99, np.int32))
  relation = same_example() & negatives_share("label")
  anchors, groups = candidates(source, after(source, steps), keys)
  value = {"relation": relation, "temperature": 0.2, "stats": ("count",)}
  found = criteria.evaluate(criteria.info_nce(), anchors, groups, **value)
  np.testing.assert_array_equal(found.stats["count"], [4, 4, 4, 0, 0])
  everything = criteria.evaluate(
    criteria.info_nce(), anchors, groups, **{**value, "relation": same_example()}
  )
  np.testing.assert_array_equal(everything.stats["count"], 20)


# Clusters.


def members(centroids, x):
  return (directions(x) @ directions(centroids).T).argsort(-1)[..., ::-1]


def test_centroids_move_to_the_mean_of_their_new_keys(float64):
  rng = np.random.default_rng(7)
  steps = [keys_of(rng, 12, index=np.arange(12, dtype=np.int32)) for _ in range(6)]
  source = clusters(5, momentum=0.8)
  state = after(source, steps[:1])
  rows = {tuple(row) for row in np.asarray(steps[0].vectors).tolist()}
  assert {tuple(row) for row in np.asarray(state["centroids"]).tolist()} < rows
  assert len(np.unique(state["centroids"], axis=0)) == 5
  expected, empty = np.array(state["centroids"]), 0
  for keys in steps[1:]:
    state = advanced(source, state, keys)
    x = np.asarray(keys.vectors)
    of = members(expected, x)[:, 0]
    for c in range(5):
      if (of == c).any():
        expected[c] = 0.8 * expected[c] + 0.2 * x[of == c].mean(0)
      else:
        empty += 1
    np.testing.assert_allclose(state["centroids"], expected, rtol=1e-12)
  assert empty  # a cluster without new keys stays where it is


def test_every_vector_is_of_its_nearest_centroid_and_hard_is_the_second(float64):
  rng = np.random.default_rng(8)
  steps = [keys_of(rng, 12) for _ in range(3)]
  source = clusters(6)
  state = after(source, steps)
  keys, sets = keys_of(rng, 7), keys_of(rng, 14)
  sets = jax.tree.map(lambda x: x.reshape(7, 2, *x.shape[1:]), sets)
  anchors, (of_keys, of_sets, hard) = candidates(
    dataclasses.replace(source, shared=False), state, steps[0], (keys, sets)
  )
  centroids = np.asarray(state["centroids"])
  for group in (anchors, of_keys, of_sets):
    order = members(centroids, np.asarray(group.vectors))
    assert group.side["cluster"].dtype == jnp.int32
    np.testing.assert_array_equal(group.side["cluster"], order[..., 0])
  order = members(centroids, np.asarray(anchors.vectors))
  np.testing.assert_array_equal(hard.vectors, centroids[order[:, 1:2]])
  np.testing.assert_array_equal(hard.side["cluster"], order[:, 1:2])
  np.testing.assert_array_equal(hard.side["index"], -1)
  np.testing.assert_array_equal(hard.side["as_negative"], 1)
  np.testing.assert_array_equal(hard.side["as_positive"], 0)

  *_, shared = candidates(source, state, steps[0], (keys, sets))[1]
  np.testing.assert_array_equal(shared.vectors, centroids)
  times = np.bincount(order[:, 1], minlength=6)
  assert times.max() > 1
  np.testing.assert_array_equal(shared.side["as_negative"], times)
  np.testing.assert_array_equal(shared.side["cluster"], np.arange(6))


@pytest.mark.parametrize("shared", [True, False])
def test_before_they_begin_clusters_change_nothing(float64, shared):
  rng = np.random.default_rng(9)
  steps = [keys_of(rng, 8) for _ in range(4)]
  source = clusters(4, shared=shared, warmup=2)
  relation = same_example() & negatives_differ("cluster")
  index = np.arange(8, dtype=np.int32)
  batch = keys_of(rng, 8, index=index, as_negative=np.ones(8))
  queries = keys_of(rng, 8, index=index, view=np.zeros(8, np.int32))
  alone = criteria.evaluate(
    criteria.info_nce(), queries, (batch,), relation=same_example(), temperature=0.2
  )
  for number in range(1, 5):
    anchors, groups = candidates(source, after(source, steps[:number]), queries, (batch,))
    found = criteria.evaluate(
      criteria.info_nce(), anchors, groups, relation=relation, temperature=0.2
    )
    same = np.isclose(found.value, alone.value, rtol=1e-12)
    assert same.all() if number <= 2 else not same.any()
  state = after(source, steps[:3])
  np.testing.assert_array_equal(after(clusters(4), steps[2:3])["centroids"], state["centroids"])


def test_clusters_do_not_depend_on_the_order_of_a_batch(float64):
  rng = np.random.default_rng(10)
  steps = [keys_of(rng, 8, index=np.arange(8, dtype=np.int32)) for _ in range(5)]
  mixed = [jax.tree.map(lambda x, o=rng.permutation(8): x[o], keys) for keys in steps]
  one, other = (after(clusters(4), s)["centroids"] for s in (steps, mixed))
  np.testing.assert_allclose(one, other, atol=1e-12)


def golden():
  arrays = np.load(pathlib.Path(__file__).with_name("golden_clusterns.npz"))
  for record in json.loads(str(arrays["meta"]))["records"]:
    yield (
      record["params"],
      *({name: arrays[key] for name, key in record[part].items()} for part in ("inputs", "grads")),
      arrays[record["value"]],
    )


@pytest.mark.parametrize("case", range(3))
def test_shared_it_is_what_the_public_code_computes(float64, case):
  """Its InfoNCE by the source, its margin loss here, from the source's clusters."""
  p, x, grads, value = list(golden())[case]
  n = len(x["a"])
  source = in_batch() + clusters(len(x["centroid"]))
  keys = keys_of(np.random.default_rng(0), n, x["a"].shape[1], index=np.arange(n, dtype=np.int32))
  _, state = begun(source, keys)
  state = (), {**state, "step": jnp.int32(1), "centroids": jnp.asarray(x["centroid"])}

  def loss(a, b):
    anchors, groups = candidates(
      source, state, Group(a, {**keys.side, "view": 0 * keys.side["view"]}), (Group(b, keys.side),)
    )
    contrast = criteria.evaluate(
      criteria.info_nce(), anchors, groups, relation=same_example(), temperature=p["temperature"]
    ).value.mean()
    cosines = cosine()((), a, b)
    cluster = anchors.side["cluster"]
    d = (cosines - jnp.diag(cosines)[:, None]) * (cluster[:, None] == cluster)
    margins = jax.nn.relu(d + p["alpha"]) + jax.nn.relu(-d - p["beta"])
    return contrast + p["weight"] * margins.mean()

  found, (of_a, of_b) = jax.value_and_grad(loss, (0, 1))(jnp.asarray(x["a"]), jnp.asarray(x["b"]))
  np.testing.assert_allclose(found, value, rtol=1e-12)
  np.testing.assert_allclose(of_a, grads["a"], atol=1e-10)
  np.testing.assert_allclose(of_b, grads["b"], atol=1e-10)


# All of them.

ALL = [
  bank(), bank(sample=7), queues(3, "label", 5), clusters(4), clusters(4, shared=False)
]  # fmt: skip


@pytest.mark.parametrize("source", ALL, ids=str)
def test_keys_and_what_is_kept_have_no_gradient(float64, source):
  rng = np.random.default_rng(11)
  steps = [keys_of(rng, 6) for _ in range(3)]
  state = after(source, steps)

  def kept(vectors):
    moved = source.advance(state, Group(vectors, steps[0].side))
    return sum((x**3).sum() for x in jax.tree.leaves(moved) if x.dtype == vectors.dtype)

  def appended(vectors):
    anchors = Group(vectors, steps[0].side)
    return (candidates(source, state, anchors)[1][-1].vectors ** 3).sum()

  for of in (kept, appended):
    assert of(steps[0].vectors) != 0
    np.testing.assert_array_equal(jax.grad(of)(steps[0].vectors), 0)


@pytest.mark.parametrize("source", ALL, ids=str)
def test_a_state_that_was_saved_goes_on_as_if_it_had_not_been(tmp_path, source):
  from contrastax.training import Checkpoints

  rng = np.random.default_rng(12)
  steps = [keys_of(rng, 6) for _ in range(6)]
  state = after(source, steps[:4])
  shapes = jax.tree.map(lambda x: (x.shape, x.dtype, x.weak_type), begun(source, steps[0]))
  assert jax.tree.map(lambda x: (x.shape, x.dtype, x.weak_type), state) == shapes
  checkpoints = Checkpoints(tmp_path / "of")
  checkpoints.save(4, state)
  checkpoints.wait()
  restored = checkpoints.restore(4, begun(source, steps[0]))
  checkpoints.close()
  restored = after(source, steps[4:], restored)
  straight = after(source, steps)
  jax.tree.map(np.testing.assert_array_equal, restored, straight)
  ours, theirs = (candidates(source, s, steps[0])[1] for s in (restored, straight))
  jax.tree.map(np.testing.assert_array_equal, ours, theirs)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("source", ALL, ids=str)
def test_half_precision_stays_so(source, dtype):
  rng = np.random.default_rng(13)

  def half(x):
    return x.astype(dtype) if x.dtype.kind == "f" else x

  steps = [jax.tree.map(half, keys_of(rng, 6)) for _ in range(3)]
  _, groups = candidates(in_batch() + source, ((), after(source, steps)), steps[0])
  assert [group.vectors.dtype for group in groups] == [dtype, dtype]
  assert jnp.isfinite(groups[1].vectors).all()
  assert len({frozenset(group.side) for group in groups}) == 1


def wrong_at_init(source, examples=EXAMPLES, **side):
  keys = keys_of(np.random.default_rng(0), 6, **side)
  return lambda: begun(source, keys, examples)


@pytest.mark.parametrize(
  ("wrong", "message"),
  [
    (wrong_at_init(bank(), 0), "examples is 0; give the method examples=…"),
    (wrong_at_init(bank(sample=21)), "cannot draw 21 of 20 examples; use a smaller sample"),
    (lambda: bank(sample=0), "sample must be an integer of at least 1, or None for all, not 0"),
    (lambda: bank(momentum=1), "momentum must be at least 0 and below 1, not 1"),
    (wrong_at_init(queues(4, "language", 3)), "needs the side 'language', but the keys have as_"),
    (
      wrong_at_init(queues(4, "label", 3), label=np.zeros(6)),
      "one integer for each key, but 'label' is float32 [6]; number its values from 0",
    ),
    (
      wrong_at_init(queues(4, "guide", 3), guide=np.zeros((6, 2), np.int32)),
      "'guide' is int32 [6, 2]",
    ),
    (lambda: queues(0, "label", 3), "the size of a queue must be an integer of at least 1, not 0"),
    (lambda: queues(4, "label", 0), "count must be an integer of at least 1, not 0"),
    (
      lambda: after_one(queues(4, "label", 3), label=np.array([0, 2, -1, 3, 0, 0], np.int32)),
      "a key's 'label' must be 0 to 2, or −1 for none, not 3; set count to one more",
    ),
    (wrong_at_init(clusters(7)), "7 clusters need as many keys in one step, which has 6; use fewer"),
    (wrong_at_init(clusters(3), cluster=np.zeros(6)), "the data have an array 'cluster'; rename it"),
    (lambda: clusters(1), "clusters: count must be an integer of at least 2, not 1"),
    (lambda: clusters(4, warmup=-1), "clusters: warmup must be an integer of at least 0, not -1"),
    (lambda: clusters(4, momentum=1.5), "momentum must be at least 0 and below 1, not 1.5"),
  ],
)  # fmt: skip
def test_what_a_user_gets_wrong_is_said_in_one_line(wrong, message):
  assert message in said(wrong)


def after_one(source, **side):
  keys = keys_of(np.random.default_rng(0), 6, **side)
  return source.advance(begun(source, keys), keys)


def everything(wide, plan):
  """A method with all of them."""
  import all_methods

  moco = all_methods.parts(wide, plan)["MoCo"]
  return dataclasses.replace(
    moco,
    negatives=in_batch() + bank(sample=32) + queues(5, "label", 10) + clusters(8),
    relation=same_example() & negatives_differ("cluster"),
    examples=64,
  )


def test_one_and_eight_devices():
  """Three steps of MoCo on digits, with labels of unequal number."""
  (result,) = processes.measured(__file__).values()
  assert result["apart"] < 1e-10, result
  assert result["moved"]["state contrast negatives"], result


def test_simclr_trains_with_a_bank():
  """As its docstring writes it; keys are two of each example."""
  import all_methods

  from contrastax import data

  simclr = all_methods.parts()["SimCLR"]
  assert isinstance(simclr, methods.SimCLR)
  simclr = dataclasses.replace(
    simclr,
    negatives=in_batch() + bank(sample=16),
    examples=1297,
  )
  batch = data.Resident(data.load("digits").train, batch_size=8).batch(0)
  params, state = jax.jit(simclr.init)(jax.random.key(0), batch)
  objective = jax.jit(simclr.objective)
  _, (state, metrics) = objective(params, state, batch, jax.random.key(1))
  assert metrics["negatives"] == 14  # nothing was visited before
  kept = state["terms"]["contrast"]["negatives"][1]["keys"]
  visited = np.flatnonzero(kept.side["index"] >= 0)
  np.testing.assert_array_equal(visited, np.sort(batch["index"]))
  np.testing.assert_allclose(np.linalg.norm(kept.vectors[visited], axis=1), 1, rtol=1e-5)
  _, (_, metrics) = objective(params, state, batch, jax.random.key(2))
  assert metrics["negatives"] == 14 + 7


if __name__ == "__main__":
  import contract
  import optax

  contract.cases = lambda mesh: {
    "MoCo": (everything(contract.wide, Plan(mesh=mesh)), optax.sgd(0.1, 0.9))
  }
  contract.main("all", 0, 1, 3, 1, 8)
