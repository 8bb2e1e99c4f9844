"""Reductions, fed piece by piece: the reduction of the whole, and its gradient."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from by_numpy import ROW, TOP, assert_same, stacked

from contrastax.pairwise import count, log_sum_exp, max_, min_, reductions, softmax_mean

NAMES = dict(zip(ROW, ("sum", "count", "log_sum_exp", "softmax_mean", "max", "min", "top_k")))  # noqa: B905
each_reduction = pytest.mark.parametrize("reduction", ROW, ids=NAMES.get)
each_with_a_gradient = pytest.mark.parametrize(
  "reduction", [r for r in ROW if r not in (count, TOP)], ids=NAMES.get
)


def of_row(reduction, row):
  return ROW[reduction](row, row**2) if reduction is softmax_mean else ROW[reduction](row)


def numbered(pieces, axis):
  """The places of candidates that come one piece after another."""
  first = 0
  for x in pieces:
    yield np.expand_dims(first + np.arange(x.shape[axis], dtype=np.int32), 1 - axis)
    first += x.shape[axis]


def fed_state(reduction, pieces, axis=1, places=None):
  """A softmax mean is fed pairs (x, x²)."""
  state = reduction.empty(jnp.zeros(pieces[0].shape[1 - axis]))
  for x, where in zip(pieces, places or numbered(pieces, axis), strict=True):
    piece = (x, jnp.where(x > -jnp.inf, x, 0) ** 2) if reduction is softmax_mean else x
    state = reduction.merge(state, reduction.from_tile(piece, where, axis))
  return state


def fed(reduction, *arguments, **options):
  return reduction.finish(fed_state(reduction, *arguments, **options))


@each_reduction
@pytest.mark.parametrize("axis", [0, 1])
def test_pieces_in_any_split_and_order_give_the_reduction_of_the_whole(float64, reduction, axis):
  x = 20 * np.random.default_rng(0).normal(size=(3, 7))
  x[:, 3] = 0

  @jax.jit
  def found(pairs):
    results = []
    for cuts in ([], [4], [1, 2, 5]):
      pieces = jnp.split(pairs, cuts, axis)
      places = list(numbered(pieces, axis))
      results.append(fed(reduction, pieces, axis, places=places))
      results.append(fed(reduction, pieces[::-1], axis, places=places[::-1]))
    return results

  for result in found(x.T if axis == 0 else x):
    assert_same(result, stacked([of_row(reduction, row) for row in x]))


@each_reduction
def test_pairs_of_the_identity_take_no_part(float64, reduction):
  x = np.random.default_rng(0).normal(size=(3, 4))
  identity = reduction.identity[0] if reduction is softmax_mean else reduction.identity
  nothing = np.full((3, 2), identity)
  mixed = [nothing, x[:, :1], nothing, np.hstack([x[:, 1:], nothing])]
  places = [np.array([p]) for p in ([8, 9], [0], [6, 7], [1, 2, 3, 4, 5])]
  expected = stacked([of_row(reduction, row) for row in x])
  assert_same(jax.jit(lambda mixed: fed(reduction, mixed, places=places))(mixed), expected)


def test_a_row_of_no_pairs_has_its_documented_value_and_no_gradient(float64):
  x = np.array([[-np.inf, -np.inf], [-np.inf, 2.0]])
  signs = {log_sum_exp: 1, softmax_mean: 1, max_: 1, min_: -1}

  def total(x, reduction):
    sign = signs[reduction]
    out = fed(reduction, [sign * x[:, :1], sign * x[:, 1:]])
    return sign * sum(jnp.sum(part) for part in jax.tree.leaves(out))

  @jax.jit
  def of_each(x):
    return [(fed(r, [sign * x]), jax.grad(total)(x, r)) for r, sign in signs.items()]

  expected = [-np.inf, 2], [[-np.inf, 2], [0, 4]], [-np.inf, 2], [np.inf, -2]
  for reduction, (value, gradient), right in zip(signs, of_each(x), expected, strict=True):
    np.testing.assert_array_equal(value, right)
    weight = 5 if reduction is softmax_mean else 1  # d(x + x²) at 2
    np.testing.assert_array_equal(gradient, [[0, 0], [0, weight]])


def test_large_and_small_numbers_neither_overflow_nor_vanish():
  x = np.float32([[1000, 999], [-1000, -1001]])
  expected = [1000 + np.log1p(np.exp(-1)), -1000 + np.log1p(np.exp(-1))]
  compiled = jax.jit(functools.partial(fed, log_sum_exp))
  for pieces in ([x], [x[:, :1], x[:, 1:]]):
    np.testing.assert_allclose(compiled(pieces), expected, rtol=1e-7)


@each_with_a_gradient
@pytest.mark.parametrize("axis", [0, 1])
def test_vjp_is_the_gradient_that_jax_takes_of_the_whole(float64, reduction, axis):
  """Piece by piece, from the state of the whole: with ties, pairs and rows that take no part."""
  rng = np.random.default_rng(0)
  x, identity = rng.normal(size=(5, 6)), np.max(np.abs(reduction.identity))
  sign = -1 if reduction is min_ else 1
  x[1, 2] = x[2] = -sign * identity
  x[3] = x[3, 0]
  x = x.T if axis == 0 else x
  pieces = np.split(x, [2, 5], axis)
  places = list(numbered(pieces, axis))

  def of(x):
    return (x, jnp.cos(jnp.where(abs(x) < jnp.inf, x, 0))) if reduction is softmax_mean else x

  @jax.jit
  def both(x, pieces, g):
    all_places = jnp.concatenate(places, axis)

    def state_of(quantities):
      empty = reduction.empty(jnp.zeros(5))
      return reduction.merge(empty, reduction.from_tile(quantities, all_places, axis))

    (expected,) = jax.vjp(lambda quantities: reduction.finish(state_of(quantities)), of(x))[1](g)
    state = state_of(of(x))
    pulled = [
      reduction.vjp(of(piece), where, state, g, axis)
      for piece, where in zip(pieces, places, strict=True)
    ]
    return expected, jax.tree.map(lambda *parts: jnp.concatenate(parts, axis), *pulled)

  shapes = jax.eval_shape(lambda x: fed(reduction, [x], axis), x)
  g = jax.tree.map(lambda part: rng.normal(size=part.shape), shapes)
  expected, found = both(x, pieces, g)
  assert all(np.abs(part).max() > 0.1 for part in jax.tree.leaves(expected))
  assert_same(found, expected)


@pytest.mark.parametrize("reduction", [max_, min_], ids=NAMES.get)
@pytest.mark.parametrize("order", [1, -1])
def test_the_gradient_of_an_extremum_is_that_of_the_first_candidate(reduction, order):
  """The first by its number, in whatever order they come."""
  sign = -1 if reduction is min_ else 1
  x = sign * np.float32([[1, 3, 3, 2, 3], [5, 5, 5, 5, 5]])
  places = [np.array([p]) for p in ([0, 1], [2], [3, 4])][::order]

  def total(x):
    return fed(reduction, [x[:, p[0]] for p in places], places=places).sum()

  gradient = jax.jit(jax.grad(total))(x)
  np.testing.assert_array_equal(gradient, [[0, 1, 0, 0, 0], [1, 0, 0, 0, 0]])


def test_top_k_prefers_lower_places_and_ends_short_rows_in_nothing():
  nothing = -np.inf
  x = np.float32([[2, 7, 2, 7, 7], [nothing, 4, nothing, nothing, 3], [nothing] * 5])
  values = [[7, 7, 7], [4, 3, nothing], [nothing] * 3]
  places = [[1, 3, 4], [1, 4, -1], [-1] * 3]
  top = jax.jit(lambda pieces, places: fed(TOP, pieces, places=places))
  for cuts in ([], [1, 3]):
    pieces = np.split(x, cuts, 1)
    numbers = list(numbered(pieces, 1))
    for order in (1, -1):
      found = top(pieces[::order], numbers[::order])
      np.testing.assert_array_equal(found[0], values)
      np.testing.assert_array_equal(found[1], places)
      assert found[1].dtype == jnp.int32
  few = jax.jit(functools.partial(fed, reductions.top_k(9)))([x[:1]])
  np.testing.assert_array_equal(few[1], [[1, 3, 4, 0, 2, -1, -1, -1, -1]])


def test_what_only_observes_has_no_gradient():
  x = np.float32([[1, 3, 2]])
  total = jax.grad(lambda x: fed(reductions.top_k(2), [x])[0].sum() + x.sum())
  gradient, counted = jax.jit(lambda x: (total(x), fed(count, [x > 1])))(x)
  np.testing.assert_array_equal(gradient, np.ones((1, 3)))
  assert counted.dtype == jnp.int32
