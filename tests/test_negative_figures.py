"""What a run says of its negatives: numbers that can be known beforehand, and that figures come out."""

import functools

import jax
import numpy as np
import optax
import pytest

from contrastax import data, encoders, evaluation, methods, reporting, temperatures, training
from contrastax.core import Group
from contrastax.experiments.build import Parts, contrast_of
from contrastax.experiments.negatives import collect_negatives, report
from contrastax.negatives import in_batch, mochi, queue
from contrastax.relations import same_example, same_label, virtual_labels
from contrastax.reporting.negatives import shown


def group(degrees, index, label, view=0, **side):
  """Vectors at angles from the x axis; as negatives, unless told."""
  n = len(degrees)
  angle = np.deg2rad(np.asarray(degrees, float))
  given = {"view": np.full(n, view), "as_positive": np.ones(n), "as_negative": np.ones(n), **side}
  sides = {"index": np.asarray(index), "label": np.asarray(label), **given}
  return Group(np.stack([np.cos(angle), np.sin(angle)], 1), sides)


ANCHOR = group([0], index=[7], label=[3])
OTHERS = group([5, 10, 40, 20, 90], index=[7, 0, 1, 2, 4], label=[3, 3, 3, 8, 8], view=1)


def cosines(*degrees):
  return np.cos(np.deg2rad(degrees))


def test_negatives_in_falling_order_and_which_of_them_are_false():
  found = evaluation.ranked_negatives(ANCHOR, [OTHERS], relation=same_example())
  np.testing.assert_array_equal(found.anchor, [7])
  np.testing.assert_array_equal(found.index, [[0, 2, 1, 4, -1]])
  np.testing.assert_allclose(found.negative, [[*cosines(10, 20, 40, 90), np.nan]], atol=1e-6)
  np.testing.assert_array_equal(found.false, [[1, 0, 1, 0, np.nan]])
  np.testing.assert_allclose(np.sort(found.positive), [[*cosines(5), *[np.nan] * 4]], atol=1e-6)
  expected = {
    "positive_similarity": cosines(5)[0],
    "negative_similarity": cosines(10, 20, 40, 90).mean(),
    "hardest_similarity": cosines(10)[0],
    "false_negative_rate": 1 / 2,
    "hardest_false_negative_rate": 1,
  }
  assert found.means() == pytest.approx(expected, abs=1e-6)


def test_a_relation_that_knows_the_labels_leaves_no_false_negative():
  means = evaluation.ranked_negatives(ANCHOR, [OTHERS], relation=same_label()).means()
  assert means["false_negative_rate"] == 0
  assert means["positive_similarity"] == pytest.approx(cosines(5, 10, 40).mean())


def test_what_is_no_example_is_neither_false_nor_true():
  mixes = group([1, 2], index=[-1, -1], label=[3, 8], view=-1)
  found = evaluation.ranked_negatives(ANCHOR, [OTHERS, mixes], relation=same_example())
  np.testing.assert_array_equal(found.index, [[-1, -1, 0, 2, 1, 4, -1]])
  np.testing.assert_array_equal(found.false, [[np.nan, np.nan, 1, 0, 1, 0, np.nan]])
  means = found.means()
  assert means["hardest_similarity"] == pytest.approx(cosines(1)[0])
  assert means["false_negative_rate"] == 1 / 2 and "hardest_false_negative_rate" not in means


def test_what_weighs_nothing_is_not_there():
  weight = np.array([1, 0, 1, 1, 1])
  others = OTHERS.attach(as_negative=weight, as_positive=0 * weight)
  found = evaluation.ranked_negatives(ANCHOR, [others], relation=same_example())
  np.testing.assert_array_equal(found.index, [[2, 1, 4, -1, -1]])
  assert np.isnan(found.positive).all() and "positive_similarity" not in found.means()


def test_the_two_examples_of_a_mixed_anchor_are_no_negatives():
  mixed = ANCHOR.attach(partner=np.array([2]), share=np.float32([0.7]))
  found = evaluation.ranked_negatives(mixed, [OTHERS], relation=virtual_labels())
  np.testing.assert_array_equal(found.index, [[0, 1, 4, -1, -1]])


def test_a_set_per_anchor_is_ranked_as_a_shared_one():
  anchors = group([0, 50], index=[7, 8], label=[3, 8])
  own = jax.tree.map(lambda x: np.stack([x, x]), OTHERS)
  shared, apart = (
    evaluation.ranked_negatives(anchors, [group], relation=same_example())
    for group in (OTHERS, own)
  )
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), shared, apart)


def test_planted_false_negatives_give_exactly_their_rate():
  """Of each anchor's 20 others the 5 nearest are of its class, and 2 further."""
  label = np.array([1] * 5 + [0] * 13 + [1] * 2)
  others = group(np.arange(10, 110, 5), index=np.arange(20), label=label, view=1)
  anchors = group([0, 1, 2], index=[97, 98, 99], label=[1, 1, 1])
  found = evaluation.ranked_negatives(anchors, [others], relation=same_example())
  np.testing.assert_array_equal(found.false.mean(0), label)
  assert found.means()["false_negative_rate"] == pytest.approx(7 / 20)
  assert found.means()["hardest_false_negative_rate"] == 1


def test_an_example_is_shown_once_and_what_is_none_not_at_all():
  np.testing.assert_array_equal(shown(np.array([5, -1, 5, 2, 9, 2, -1])), [0, 3, 4])
  assert not len(shown(np.array([-1, -1])))


@pytest.mark.parametrize("channels", [2, 3])
def test_figures_of_anchors_with_few_negatives_and_with_none(tmp_path, channels):
  others = OTHERS.attach(index=np.array([7, 0, 1, -1, 4]))
  anchors = group([0, 50], index=[7, 8], label=[3, 8])
  for name, weight in {"few": 1, "none": 0}.items():
    given = others.attach(as_negative=np.full(5, weight))
    found = evaluation.ranked_negatives(anchors, [given], relation=same_example())
    images = np.zeros((9, 4, 6, channels), np.uint8)
    reporting.hardness(found, tmp_path / f"{name}.png")
    reporting.nearest_negatives(images, found, [0, 1], tmp_path / f"{name} nearest.png")
  assert len(list(tmp_path.iterdir())) == 4


def unchanged(key, images, index):
  return images


@functools.cache  # and with it what was compiled
def untrained(shape, labels, negatives):
  """SimCLR of a small set, without test images, and its first state."""
  method = methods.SimCLR(
    encoder=encoders.mlp((16,)), projection=encoders.projection((16,), 8), views=unchanged,
    temperature=temperatures.fixed(0.2), negatives=negatives,
  )  # fmt: skip
  images = np.random.default_rng(0).uniform(size=(100, *shape)).astype(np.float32)
  train = {"image": images, "label": np.arange(100, dtype=np.int32) % 4}
  train = train if labels else {"image": images}
  source, optimizer = data.Resident(train, batch_size=32), optax.sgd(0.1)
  dataset = data.Dataset(train, {}, ())
  parts = Parts(dataset, source, method, optimizer, None, dataset, method)
  return parts, training.init(method, optimizer, source.batch(0))


def full(parts, state):
  """The state after three steps that change no parameter, but fill a queue."""
  objective = jax.jit(parts.method.objective)
  for t in range(3):
    _, (after, _) = objective(state.params, state.state, parts.source.batch(t), jax.random.key(t))
    state = state._replace(step=state.step + 1, state=after)
  return state


MIXES = in_batch() + queue(128) + mochi(hard=9, mixed=5, with_anchor=2)


@pytest.mark.parametrize("sources", [in_batch(), MIXES], ids=["batch", "batch, queue, mixes"])
def test_the_negatives_are_those_of_the_loss(sources):
  """Their number, and the perplexity of their softmax, are the loss's own."""
  parts, state = untrained((4, 4, 3), True, sources)
  state = state if sources == in_batch() else full(parts, state)
  found, metrics = collect_negatives(parts.method, contrast_of(parts.method), parts.source, state)
  assert len(found.anchor) == 1024
  there = ~np.isnan(found.negative)
  assert there.sum(1).mean() == pytest.approx(metrics["negatives"])
  weight = np.where(there, np.exp(np.where(there, found.negative, 0) / 0.2), 0).astype(float)
  weight /= weight.sum(1, keepdims=True)
  entropy = -(weight * np.log(np.where(weight > 0, weight, 1))).sum(1)
  assert np.exp(entropy).mean() == pytest.approx(metrics["effective_negatives"], rel=1e-3)
  own = found.index == found.anchor[:, None]
  assert not own.any(), "no anchor is its own negative"


@pytest.mark.parametrize(
  ("shape", "labels", "pictures"),
  [((4, 4, 3), True, True), ((4, 4, 1), False, True), ((5,), True, False)],
  ids=["color", "no labels", "no images"],
)
def test_a_run_reports_them_from_training_examples_alone(tmp_path, shape, labels, pictures):
  said = report(*untrained(shape, labels, in_batch()), tmp_path)
  assert said["anchors"] == 1024 and said["negatives"] == 62
  assert 1 <= said["effective_negatives"] <= 62
  assert ("false_negative_rate" in said) == labels
  assert said["negative_similarity"] < said["hardest_similarity"]
  assert (tmp_path / "negatives.png").exists()
  assert (tmp_path / "nearest_negatives.png").exists() == pictures


def test_with_more_pairs_than_memory_should_hold_there_are_fewer_anchors(monkeypatch):
  parts, state = untrained((4, 4, 3), True, in_batch())
  monkeypatch.setattr(
    "contrastax.experiments.negatives.MAX_PAIRS", 640
  )  # 10 anchors of 64 candidates
  found, _ = collect_negatives(parts.method, contrast_of(parts.method), parts.source, state)
  assert found.negative.shape == (10, 64)
