"""Clusters that are found online."""

import dataclasses
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from remembered import advanced, after, begun, candidates, directions, evaluated, keys_of

from contrastax import criteria
from contrastax.core import Group
from contrastax.negatives.clusters import clusters
from contrastax.negatives.sources import in_batch
from contrastax.pairwise import cosine
from contrastax.relations import negatives_differ, same_example


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
  sets = jax.tree.map(lambda x: np.reshape(x, (7, 2, *x.shape[1:])), sets)
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
  alone, _ = evaluated(queries, (batch,), 0.2)
  for number in range(1, 5):
    anchors, groups = candidates(source, after(source, steps[:number]), queries, (batch,))
    found, _ = evaluated(anchors, groups, 0.2, relation)
    same = np.isclose(found, alone, rtol=1e-12)
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

  found, (of_a, of_b) = jax.jit(jax.value_and_grad(loss, (0, 1)))(x["a"], x["b"])
  np.testing.assert_allclose(found, value, rtol=1e-12)
  np.testing.assert_allclose(of_a, grads["a"], atol=1e-10)
  np.testing.assert_allclose(of_b, grads["b"], atol=1e-10)
