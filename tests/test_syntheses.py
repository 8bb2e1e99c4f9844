"""Candidates that are made, all of them: order, precision, refusals, methods and devices."""

import functools
import json

import all_methods
import chex
import jax
import jax.numpy as jnp
import numpy as np
import processes
import pytest
from synthetic import LABELS, D, N, compared, group, made, normal, two_views

from contrastax import encoders, methods
from contrastax.core import Group, UserError
from contrastax.negatives import in_batch, queue
from contrastax.negatives.adversarial import adversarial_negatives, adversarial_positives
from contrastax.negatives.noise import noise
from contrastax.negatives.supremix import supremix
from contrastax.pairwise import Plan
from contrastax.relations import label_distance, same_label


@pytest.mark.parametrize(
  "source",
  [
    adversarial_negatives(radius=0.2, temperature=0.3),
    adversarial_positives(radius=0.2, size=0.1, temperature=0.3),
    supremix(negatives=3, positives=2, alpha=2.0),
  ],
)
def test_what_is_made_does_not_depend_on_the_order_of_rows(float64, source):
  one, order = two_views(), np.random.default_rng(0).permutation(2 * N)
  other = jax.tree.map(lambda x: np.asarray(x)[order], one)
  found, again = made(source, one, (one,)), made(source, other, (other,))
  found = jax.tree.map(lambda x: np.asarray(x)[order], found)
  chex.assert_trees_all_close(again, found, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
  "source",
  [
    noise(count=3, steps=2, size=0.1, temperature=0.3),
    adversarial_negatives(radius=0.2, temperature=0.3),
    adversarial_positives(radius=0.2, size=0.1, temperature=0.3),
    supremix(negatives=3, positives=2, alpha=2.0),
  ],
)
def test_half_precision_is_kept_and_loses_little(source):
  both = two_views()
  whole, half = (
    Group(np.asarray(both.vectors).astype(jnp.bfloat16).astype(dtype), both.side)
    for dtype in (jnp.float32, jnp.bfloat16)
  )
  expected, found = (made(source, both, (both,)) for both in (whole, half))
  for x, y in zip(found, expected, strict=True):
    assert x.vectors.dtype == jnp.bfloat16
    if not isinstance(source, adversarial_positives):  # a step back is as long where KL is flat
      np.testing.assert_allclose(np.float32(x.vectors), np.float32(y.vectors), atol=0.05)


def mixes(both):
  return made(supremix(negatives=1, positives=0, alpha=2.0), both, (both,), compared(same_label()))


# Refusals.


@pytest.mark.parametrize(
  ("wrong", "message"),
  [
    (lambda: noise(count=0, steps=1, size=1, temperature=1), "noise: count must be an integer of at least 1, not 0"),
    (lambda: noise(count=1, steps=-1, size=1, temperature=1), "noise: steps must be an integer of at least 0, not -1"),
    (lambda: noise(count=1, steps=1, size=0, temperature=1), "noise: size must be a number above 0, not 0"),
    (lambda: noise(count=1, steps=1, size=1, temperature="a"), "noise: temperature must be a number above 0, not 'a'"),
    (lambda: adversarial_negatives(radius=-1, temperature=1), "adversarial_negatives: radius must be a number above 0, not -1"),
    (lambda: adversarial_negatives(radius=1, temperature=0), "temperature must be a number above 0, not 0"),
    (lambda: adversarial_positives(radius=1, size=np.nan, temperature=1), "adversarial_positives: size must be a number above 0, not nan"),
    (lambda: adversarial_positives(radius=1, size=1, temperature=1, steps=1.5), "steps must be an integer of at least 0, not 1.5"),
    (lambda: supremix(negatives=-1, positives=2, alpha=1), "supremix: negatives must be an integer of at least 0, not -1"),
    (lambda: supremix(negatives=0, positives=0, alpha=1), "mixes nothing with negatives = positives = 0; leave it out"),
    (lambda: supremix(negatives=1, positives=0, alpha=0), "supremix: alpha must be a number above 0, not 0"),
    (lambda: supremix(negatives=1, positives=0, alpha=None), "supremix: alpha must be a number above 0, not None"),
    (lambda: supremix(negatives=1, positives=0, alpha=1, beta=-2), "supremix: beta must be a number above 0, not -2"),
    (lambda: supremix(negatives=1, positives=0, alpha=1, window=0), "supremix: window must be a number above 0, not 0"),
    (lambda: mixes(two_views(labels=np.arange(N))), "mixes labels, but those of the data are int"),
    (lambda: mixes(group(normal(0, N, D))), "but the data have none; give numbers as float32 'label'"),
  ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_in_one_line(wrong, message):
  with pytest.raises(UserError) as raised:
    wrong()
  assert message in str(raised.value)
  assert "\n" not in str(raised.value)


# In a method.

BATCH = {
  "index": np.arange(N, dtype=np.int32),
  "image": np.random.default_rng(0).uniform(size=(N, 8, 8, 1)).astype(np.float32),
  "label": LABELS.astype(np.float32),
}


@functools.cache
def metrics_of(kind, **parts):
  """The metrics of one objective under jit, whose gradient is finite."""
  head = encoders.projection((8,), D)
  method = kind(
    encoder=encoders.mlp((8,)), projection=head, views=all_methods.noise, examples=N, **parts
  )

  @jax.jit
  def run(batch):
    params, state = method.init(jax.random.key(0), batch)
    objective = jax.value_and_grad(method.objective, has_aux=True)
    return objective(params, state, batch, jax.random.key(1))

  (loss, (_, metrics)), gradient = run(BATCH)
  chex.assert_tree_all_finite((loss, gradient))
  assert loss > 0
  return {name: float(x) for name, x in metrics.items()}


@pytest.mark.parametrize(
  ("source", "more"),
  [
    (noise(count=5, steps=2, size=1e-3, temperature=0.1), 5),
    (adversarial_negatives(radius=0.2, temperature=0.1), 1),
    (adversarial_positives(radius=0.5, size=0.2, temperature=0.1), 0),
  ],
)
@pytest.mark.parametrize("kind", [methods.SimCLR, methods.MoCo])
def test_in_a_method_there_are_more_candidates(kind, source, more):
  left = in_batch() + queue(2 * N)
  without, found = metrics_of(kind, negatives=left), metrics_of(kind, negatives=left + source)
  np.testing.assert_allclose(found["negatives"], without["negatives"] + more, rtol=1e-6)
  assert found["loss"] > without["loss"]  # a further negative, or a positive that is less similar


def test_in_a_method_of_numbers_mixes_join_the_distances():
  relation = same_label() & label_distance()

  def run(*sources):
    return metrics_of(methods.SimCLR, negatives=sum(sources, in_batch()), relation=relation)

  distance = np.abs(LABELS[:, None] - LABELS)
  expected = 2 * np.where(distance > 0, 1 + distance, 0).sum(1).mean()
  without = run()
  np.testing.assert_allclose(without["negatives"], expected, rtol=1e-6)
  positive = run(supremix(negatives=0, positives=3, alpha=2.0))
  np.testing.assert_allclose(positive["negatives"], expected, rtol=1e-6)
  assert positive["similarity"] != pytest.approx(without["similarity"], abs=1e-4)
  negative = run(supremix(negatives=4, positives=3, alpha=2.0, window=2.0))
  assert expected + 4 < negative["negatives"] < expected + 4 * (1 + distance.max())
  assert negative["effective_negatives"] > without["effective_negatives"]


# On several devices.


def on_devices(devices):
  """How far what is made by a mesh, in a ring of tiles, is from what one device makes, densely."""
  from jax.sharding import AxisType, NamedSharding, PartitionSpec

  mesh = jax.make_mesh((devices,), ("data",), axis_types=(AxisType.Auto,))
  both = two_views(8)
  divided = jax.device_put(both, NamedSharding(mesh, PartitionSpec("data")))
  found = {}
  for source in (
    noise(count=3, steps=2, size=0.1, temperature=0.3),
    adversarial_negatives(radius=0.2, temperature=0.3),
    adversarial_positives(radius=0.2, size=0.1, temperature=0.3),
    supremix(negatives=3, positives=2, alpha=2.0),
  ):

    def candidates(both, plan, source=source):
      same = Group(both.vectors, both.side)
      return source.candidates(
        (), same, (same,), jax.random.key(0), compared(same_label(), plan=plan)
      )[1]

    expected = jax.jit(lambda x, make=candidates: make(x, Plan("dense")))(both)
    ring = jax.jit(lambda x, make=candidates: make(x, Plan((3, 2), mesh)))(divided)
    apart = jax.tree.map(lambda a, b: np.abs(np.asarray(a) - np.asarray(b)).max(), ring, expected)
    found[type(source).__name__] = max(float(x) for x in jax.tree.leaves(apart))
  return found


def test_several_devices_make_the_same():
  found = processes.measured(__file__, devices=4)
  assert len(found) == 4
  assert max(found.values()) < 1e-10, found


if __name__ == "__main__":
  print(json.dumps(on_devices(4)))
