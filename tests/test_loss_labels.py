"""What a loss makes of labels of other types, of none, and of those without a proxy."""

import functools
import inspect

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from loss_arguments import W, Y, Z, refused
from mesh import public

from contrastax import losses
from contrastax.relations import same_label

BY_LABEL = {
  "sup_con": lambda z, y: losses.sup_con(z, y, temperature=0.2),
  "sup_con_in": lambda z, y: losses.sup_con_in(z, y, temperature=0.2),
  "triplet": lambda z, y: losses.triplet(z, y, margin=0.2),
  "triplet, all": lambda z, y: losses.triplet(z, y, margin=0.2, mining="batch all"),
  "triplet, semi-hard": lambda z, y: losses.triplet(z, y, margin=0.2, mining="semi-hard"),
  "n_pairs": lambda z, y: losses.n_pairs(z, z[::-1], y),
  "circle": lambda z, y: losses.circle(z, y, scale=8.0),
  "multi_similarity": lambda z, y: losses.multi_similarity(z, y, beta=5.0),
  "multi_similarity, all": lambda z, y: losses.multi_similarity(z, y, margin=None),
  "soft_nearest_neighbor": lambda z, y: losses.soft_nearest_neighbor(z, y, temperature=1.0),
}
BY_PROXY = {
  "proxy_nca": lambda z, y, w: losses.proxy_nca(z, y, w, temperature=0.2),
  "proxy_nca, softmax": lambda z, y, w: losses.proxy_nca(
    z, y, w, temperature=0.2, own_in_denominator=True
  ),
  "arcface": lambda z, y, w: losses.arcface(z, y, w, scale=8.0),
  "cosface": lambda z, y, w: losses.cosface(z, y, w, scale=8.0),
}


def test_every_loss_of_labels_is_in_a_table():
  named = {
    name
    for name in public(losses)
    if "labels" in inspect.signature(getattr(losses, name)).parameters
  }
  assert named == {name.partition(",")[0] for name in (*BY_LABEL, *BY_PROXY)}


SAME = {
  "[n, 1]": lambda y: y[:, None],
  "a list": list,
  "uint8": lambda y: y.astype(np.uint8),
  "uint64": lambda y: y.astype(np.uint64),
  "int16 on the device": lambda y: jnp.asarray(y, jnp.int16),
}
RENAMED = {
  "negative": lambda y: y - 7,
  "10^12 apart": lambda y: y * 10**12,
  "2^40 and near": lambda y: y + 2**40,
  # These are one value where 64 bits are cut to 32.
  "equal in 32 bits": lambda y: y * 2**32,
  "the largest": lambda y: np.uint64(2**64 - 1) - y.astype(np.uint64),
}


@pytest.mark.parametrize("name", BY_LABEL)
def test_a_loss_depends_on_which_labels_are_equal_alone(name):
  expected = BY_LABEL[name](Z, Y)
  for kind, rename in {**SAME, **RENAMED}.items():
    chex.assert_trees_all_equal(BY_LABEL[name](Z, rename(Y)), expected, custom_message=kind)
  two = BY_LABEL[name](Z, (Y > 0).astype(int))
  chex.assert_trees_all_equal(BY_LABEL[name](Z, Y > 0), two)


@pytest.mark.parametrize("name", BY_PROXY)
def test_a_loss_of_proxies_takes_any_integer_type(name):
  expected = BY_PROXY[name](Z, Y, W)
  for kind, same in SAME.items():
    chex.assert_trees_all_equal(BY_PROXY[name](Z, same(Y), W), expected, custom_message=kind)
  chex.assert_trees_all_equal(BY_PROXY[name](Z, Y > 0, W), BY_PROXY[name](Z, 1 * (Y > 0), W))


@pytest.mark.parametrize("name", sorted(BY_LABEL.keys() - {"n_pairs"}))
def test_an_unlabeled_vector_is_nobodys_positive_and_still_a_negative(name):
  """As if each unlabeled vector had a label of its own; the next test is of `n_pairs`."""
  unknown = np.where(np.arange(8) < 4, -1, Y)
  alone = np.where(np.arange(8) < 4, 10 + np.arange(8), Y)
  for labels in (unknown, jnp.asarray(unknown), jnp.asarray(unknown, jnp.int8)):
    chex.assert_trees_all_equal(BY_LABEL[name](Z, labels), BY_LABEL[name](Z, alone))
  beside = BY_LABEL[name](Z, np.where(unknown < 0, -1, unknown + 2**40))
  chex.assert_trees_all_equal(beside, BY_LABEL[name](Z, alone))


def test_a_pair_without_a_label_is_its_own_only_positive():
  """The rows of `n_pairs` belong together whether or not they have a label."""
  chex.assert_trees_all_equal(losses.n_pairs(Z, Z[::-1], 0 * Y - 1), losses.n_pairs(Z, Z[::-1]))


@pytest.mark.parametrize("name", BY_PROXY)
def test_a_vector_without_a_label_has_no_proxy_and_value_0(name):
  labels = np.where(np.arange(8) < 4, -1, Y)

  @jax.jit
  @functools.partial(jax.grad, has_aux=True)
  def differentiated(z):
    values = BY_PROXY[name](z, labels, W)
    return values.sum(), values

  gradient, values = differentiated(Z)
  expected = np.asarray(BY_PROXY[name](Z, Y, W))[4:].sum()
  np.testing.assert_allclose(np.asarray(values).sum(), expected, rtol=1e-6)
  np.testing.assert_array_equal(np.asarray(gradient)[:4], 0)
  broken = np.array(Z)
  broken[0] = np.nan
  assert np.isnan(np.asarray(differentiated(broken)[1])[0])


@pytest.mark.parametrize("name", BY_PROXY)
@pytest.mark.parametrize("wrong", [3, -2, 10**12])
def test_a_label_without_a_proxy_is_refused_where_known_and_nan_where_traced(name, wrong):
  labels = np.where(np.arange(8) == 5, wrong, Y)
  refused(lambda: BY_PROXY[name](Z, labels, W), f"not {wrong:,}")
  if wrong < 2**31:
    value = jax.jit(BY_PROXY[name])(Z, labels, W)
    np.testing.assert_array_equal(np.isnan(value), np.arange(8) == 5)


def test_a_relation_of_labels_with_unsigned_types_has_no_unlabeled():
  label = jnp.asarray([255, 255, 1], jnp.uint8)
  side = {"index": jnp.arange(3), "view": jnp.zeros(3, int), "label": label}
  pairs = same_label()({k: x[:, None] for k, x in side.items()}, side, jnp.zeros((3, 3)))
  np.testing.assert_array_equal(pairs.positive, [[0, 1, 0], [1, 0, 0], [0, 0, 0]])
