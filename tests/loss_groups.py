"""The losses on groups with weights, and the formula of each for one anchor."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from loss_cases import similarity

from contrastax import criteria
from contrastax.core import Group, Pairs
from contrastax.pairwise import cosine, dot, negative_squared_distance
from contrastax.relations import Relation

# On groups: weights, several positives, several groups, other scores.


@dataclasses.dataclass(frozen=True)
class graded(Relation):
  """One label: a positive as good as the candidate's quality, a negative a little; else a negative."""

  def __call__(self, a, c, similarity):
    same = a["label"] == c["label"]
    return Pairs(jnp.where(same, c["quality"], 0), jnp.where(same, 0.25, 1.0))


def weighted_problem():
  """Anchors [5, 4] of two labels; shared keys, a queue of negatives, a set per anchor; τ [5]."""
  rng = np.random.default_rng(1)

  def side(*shape, positive, negative):
    return {
      "label": rng.integers(0, 2, shape),
      "quality": rng.uniform(0.2, 1, shape),
      "as_positive": positive * rng.uniform(0.2, 1, shape),
      "as_negative": negative * rng.uniform(0.2, 1, shape),
    }

  filled = np.array([1, 1, 1, 0, 0, 0])  # a queue with three empty places
  anchors = Group(rng.normal(size=(5, 4)), {"label": np.array([0, 1, 0, 1, 0])})
  keys = Group(rng.normal(size=(7, 4)), side(7, positive=1, negative=1))
  queue = Group(rng.normal(size=(6, 4)), side(6, positive=0, negative=filled))
  mixes = Group(rng.normal(size=(5, 3, 4)), side(5, 3, positive=0, negative=1))
  return anchors, (keys, queue, mixes), np.array([0.3, 0.5, 1.0, 2.0, 0.2])


SCORES = {
  cosine(): similarity,
  dot(): lambda a, b: a @ b,
  negative_squared_distance(): lambda a, b: -((a - b) ** 2).sum(),
}


def rows_of(problem, score=similarity):
  """Of each anchor ℓ, w⁺ and w⁻ of all candidates, one after another; and its τ."""
  anchors, groups, tau = problem
  for i in range(len(anchors.vectors)):
    row = []
    for candidates in groups:
      for j in range(candidates.vectors.shape[-2]):
        at = (i, j) if candidates.per_anchor else (j,)
        side = {name: values[at] for name, values in candidates.side.items()}
        same = anchors.side["label"][i] == side["label"]
        logit = score(anchors.vectors[i], candidates.vectors[at]) / tau[i]
        positive = same * side["quality"] * side["as_positive"]
        negative = (0.25 if same else 1.0) * side["as_negative"]
        row.append((logit, positive, negative))
    yield *np.transpose(row), tau[i]


def mean(weight, x):
  return (weight * x).sum() / weight.sum()


def hard_negative_of(logit, positive, negative, tau, v, beta=0.7, tau_plus=0.05):
  p, count = mean(positive, logit), negative.sum()
  r = mean(negative * np.exp(beta * logit), np.exp(logit))
  estimate = count * (r - tau_plus * mean(positive, np.exp(logit))) / (1 - tau_plus)
  return np.log1p(max(estimate, count * np.exp(-1 / tau)) / np.exp(p))


STATS = ("positive", "count", "log_mean", "mean_logit", "divergence")


# Every public loss on groups, and its formula for one anchor: of its ℓ, w⁺, w⁻, τ, and DCLW's v.
def first_visit(*arguments, **more):
  """SogCLR where nothing was visited yet; what it remembers is in test_individual.py."""
  criterion, (anchors, groups) = criteria.sogclr(), arguments
  anchors = anchors.attach(row=jnp.arange(len(anchors.vectors)))
  memory = criterion.init(50)
  return criteria.evaluate(criterion, anchors, groups, memory=memory, **more)._replace(memory=())


def called(criterion, **more):
  return functools.partial(criteria.evaluate, criterion, **more)


GROUPS = {
  "info_nce": (
    called(criteria.info_nce()),
    lambda x, p, n, tau, v: -mean(p, x) + np.log(((p + n) * np.exp(x)).sum()),
  ),
  "sup_con_in": (
    called(criteria.sup_con_in()),
    lambda x, p, n, tau, v: -np.log(mean(p, np.exp(x)) / ((p + n) * np.exp(x)).sum()),
  ),
  "dcl": (
    called(criteria.dcl()),
    lambda x, p, n, tau, v: -mean(p, x) + np.log((n * np.exp(x)).sum()),
  ),
  "dclw": (
    called(criteria.dclw(sigma=0.4)),
    lambda x, p, n, tau, v: -v * mean(p, x) + np.log((n * np.exp(x)).sum()),
  ),
  "hard_negative": (
    called(criteria.hard_negative(beta=0.7, tau_plus=0.05)), hard_negative_of,
  ),
  "debiased": (
    called(criteria.debiased(tau_plus=0.5)),  # anchor 0 is at the bound
    functools.partial(hard_negative_of, beta=0, tau_plus=0.5),
  ),
  "siglip": (
    called(criteria.siglip(), bias=0.5),
    lambda x, p, n, tau, v: (p * np.log1p(np.exp(-x - 0.5)) + n * np.log1p(np.exp(x + 0.5))).sum(),
  ),
  "sogclr": (
    first_visit, lambda x, p, n, tau, v: -mean(p, x) + np.log((n * np.exp(x)).sum() / n.sum()),
  ),
}  # fmt: skip
each_group_loss = pytest.mark.parametrize("name", GROUPS)
each_that_compares = pytest.mark.parametrize("name", [name for name in GROUPS if name != "siglip"])
"""The sigmoid loss is defined for anchors with only positives and for anchors with only negatives."""


def von_mises_fisher_weights(rows, sigma=0.4):
  e = np.array([np.exp(tau * mean(positive, logit) / sigma) for logit, positive, _, tau in rows])
  return 2 - e / e.mean()


def on_groups(name, relation=graded(), score=cosine(), stats=STATS):
  """(anchors, groups, τ) -> values, stats, and the gradients of Σ i · value_i by all of them."""
  return _on_groups(name, relation, score, stats)


@functools.cache
def _on_groups(name, relation, score, stats):
  def total(problem):
    anchors, groups, tau = problem
    found = GROUPS[name][0](
      anchors, groups, relation=relation, temperature=tau, score=score, stats=stats
    )
    assert found.memory == ()
    return (jnp.arange(1, 1 + len(tau)) * found.value).sum(), (found.value, found.stats)

  @jax.jit
  def found(problem):
    gradients, (values, observed) = jax.grad(total, has_aux=True, allow_int=True)(problem)
    return values, observed, gradients

  return lambda problem: jax.tree.map(np.asarray, found(problem))


def numbers(tree):
  """{path: array} of the arrays of a tree that are not integers."""
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  named = {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}
  return {path: leaf for path, leaf in named.items() if leaf.dtype.kind == "f"}


def candidates(vectors, index, positive=0.0, negative=0.0):
  """Candidates of `same_example`, of another view than the anchors."""
  shape = vectors.shape[:-1]
  full = functools.partial(np.broadcast_to, shape=shape)
  side = {"index": full(index), "view": np.ones(shape, int)}
  return Group(vectors, {**side, "as_positive": full(positive), "as_negative": full(negative)})


def lacking_problem(some=1.0):
  """Anchor 0 has no positive, anchor 1 no negative, anchor 2 neither, anchor 3 both."""
  rng = np.random.default_rng(0)
  anchors = Group(rng.normal(size=(4, 3)), {"index": np.arange(4), "view": np.zeros(4, int)})
  keys = candidates(
    rng.normal(size=(4, 2, 3)), np.stack([np.arange(4), np.full(4, -1)], 1),
    positive=some * np.array([[0, 0], [1, 0], [0, 0], [1, 0]]),
    negative=np.array([[0, 1.0], [0, 0], [0, 0], [0, 1]]),
  )  # fmt: skip
  return anchors, (keys,), np.full(4, 0.1)
