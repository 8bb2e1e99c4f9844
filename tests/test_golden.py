"""Public implementations: their values and gradients, beside ours, in float64.

`tests/golden/LOSS__IMPLEMENTATION.npz` is what one implementation computes of one loss:
`in_*` inputs, `case{k}_value`, `case{k}_grad_{argument}`, and `meta`, a JSON text. It says whose
code it is, its formula and conventions, and of every case the parameters, inputs and learned
scalars, and which arguments have gradients: those that the code does not detach.

`GOLDEN_DIR=DIR python -m pytest tests/test_golden.py` compares any folder of that layout. The
run ends with a table: how many cases are compared and agree, how many are left out and why.
A loss of which the tables here know nothing is left out as unknown.
"""

import collections
import dataclasses
import functools
import json
import os
import pathlib
import textwrap
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from records import tangent

from contrastax import criteria, evaluation, losses, negatives
from contrastax.core import Group, Pairs, join
from contrastax.pairwise import cosine, dot, negative_squared_distance, unit
from contrastax.relations import Relation, same_example, same_label

FOLDER = pathlib.Path(os.environ.get("GOLDEN_DIR", pathlib.Path(__file__).parent / "golden"))


# Ours: on arrays where the score is None, on groups with any other.


def group(vectors, index, *, view, as_positive=1.0, as_negative=1.0, **side):
  """Vectors as anchors or candidates."""
  full = functools.partial(jnp.broadcast_to, shape=vectors.shape[:-1])
  weights = {"as_positive": full(as_positive), "as_negative": full(as_negative)}
  return Group(vectors, {"index": full(index), "view": full(view), **weights, **side})


def both_views(z1, z2):
  index = jnp.arange(len(z1))
  return join(group(z1, index, view=0), group(z2, index, view=1))


def two_views(name, z1, z2, tau, score, **more):
  """A loss of two views, one value per anchor [2n]: those of z1 first."""
  if score is None:
    return getattr(losses, name)(z1, z2, temperature=tau, **more)
  views = both_views(z1, z2)
  criterion = getattr(criteria, {"nt_xent": "info_nce"}.get(name, name))(**more)
  return criteria.evaluate(
    criterion, views, (views,), relation=same_example(), temperature=tau, score=score, same_set=True
  ).value


def one_way(a, b, negatives, tau, score, *, loss="info_nce", in_batch=False, weight=1.0):
  """InfoNCE. Other anchors' positives are negatives if there are no others, or `in_batch`."""
  if score is None and loss == "info_nce" and not in_batch:
    return losses.info_nce(a, b, negatives, temperature=tau)
  index = jnp.arange(len(a))
  if negatives is None or in_batch:
    candidates = (group(b, index, view=1),)
  else:
    candidates = (group(b[:, None], index[:, None], view=1),)
  if negatives is not None:
    candidates += (group(negatives, -1, view=1, as_positive=0, as_negative=weight),)
  return criteria.evaluate(
    getattr(criteria, loss)(), group(a, index, view=0), candidates,
    relation=same_example(), temperature=tau, score=score or cosine(),
  ).value  # fmt: skip


def clip(a, b, tau, score):
  if score is None:
    return losses.clip(a, b, temperature=tau)
  ab, ba = tau if isinstance(tau, tuple) else (tau, tau)
  return (one_way(a, b, None, ab, score) + one_way(b, a, None, ba, score)) / 2


@dataclasses.dataclass(frozen=True)
class every_pair(Relation):
  """All are positives and negatives, as much as the candidates' weights say."""

  def __call__(self, a, c, similarity):
    return Pairs(jnp.ones_like(similarity), jnp.ones_like(similarity))


def labeled(name, z, label, tau, score):
  """A loss of labeled vectors, each against all others."""
  if score is None:
    return getattr(losses, name)(z, label, temperature=tau)
  all_of_them = group(z, jnp.arange(len(z)), view=0, label=label)
  return criteria.evaluate(
    criteria.info_nce(), all_of_them, (all_of_them,),
    relation=same_label(), temperature=tau, score=score, same_set=True,
  ).value  # fmt: skip


def with_memory(z, label, memory, memory_label):
  """Labeled vectors and a memory, all without gradient: the candidates of z."""
  return jax.lax.stop_gradient(jnp.concatenate([z, memory])), jnp.concatenate([label, memory_label])


def pairs(z, label, tau, candidates=None, candidate_label=None):
  """InfoNCE of every pair of one label, its negatives all of other labels.

  Returns values [n, m] and which of the pairs there are. Candidates: z, or such as begin with it.
  """
  if candidates is None:
    candidates, candidate_label = z, label
  i, j = (index.ravel() for index in jnp.indices((len(z), len(candidates))))
  positive = (label[i] == candidate_label[j]) & (i != j)
  negative = label[i][:, None] != candidate_label
  own = group(candidates[j][:, None], i[:, None], view=1, as_positive=1.0 * positive[:, None])
  others = group(
    jnp.broadcast_to(candidates, (len(i), *candidates.shape)), -1,
    view=1, as_positive=0, as_negative=1.0 * negative,
  )  # fmt: skip
  values = criteria.evaluate(
    criteria.info_nce(),
    group(z[i], i, view=0),
    (own, others),
    relation=same_example(),
    temperature=tau,
  ).value
  return values.reshape(len(z), -1), positive.reshape(len(z), -1)


def soft(a, b, targets, tau, score=None):
  """Cross-entropy with targets [n, m], rows summing to 1: InfoNCE with weighted positives."""
  weights = {"as_positive": targets, "as_negative": 1 - targets}
  return criteria.evaluate(
    criteria.info_nce(),
    group(a, 0, view=0), (group(jnp.broadcast_to(b, (len(a), *b.shape)), 0, view=1, **weights),),
    relation=every_pair(), temperature=tau, score=score or cosine(),
  ).value  # fmt: skip


# What implementations compute in terms of ours, from inputs x, parameters p and a score.


def tau_of(x, p):
  """The temperature under any of its names."""
  if hasattr(x, "log_scale"):
    return jnp.exp(-x.log_scale)
  if hasattr(p, "scale"):
    return 1 / p.scale
  return p.tau if hasattr(p, "tau") else p.temperature


def views_mean(name, *arguments, view=None):
  """The mean of a loss of two views, over the anchors of both or of view 0 only."""

  def row(x, p, score):
    z1, z2 = two_sets(x)
    more = {argument: getattr(p, argument) for argument in arguments}
    values = two_views(name, z1, z2, tau_of(x, p), score, **more)
    return values.mean() if view is None else values[: len(z1)].mean()

  return row


def one_way_mean(a, b, negatives=None, **more):
  def row(x, p, score):
    shared = getattr(x, negatives or "", None)
    return one_way(getattr(x, a), getattr(x, b), shared, tau_of(x, p), score, **more).mean()

  return row


def clip_mean(a, b):
  return lambda x, p, score: clip(getattr(x, a), getattr(x, b), tau_of(x, p), score).mean()


@dataclasses.dataclass(frozen=True)
class times:
  """A row times a constant: a number, or a function of the temperature given."""

  factor: object
  row: object


def average(values, kept):
  return jnp.where(kept, values, 0).sum() / kept.sum()


def nt_xent_detached(x, p, score):
  """Gradient through the anchors only."""
  views = both_views(x.z1, x.z2)
  return criteria.evaluate(
    criteria.info_nce(),
    views,
    (jax.lax.stop_gradient(views),),
    relation=same_example(),
    temperature=p.temperature,
  ).value.mean()


def nearest_neighbors(x, p, score):
  def neighbors(z):
    return x.queue[jnp.argmax(unit(z) @ unit(x.queue).T, 1)]

  one = two_views("nt_xent", neighbors(x.z1), x.p2, p.temperature, score)
  return (one + two_views("nt_xent", neighbors(x.z2), x.p1, p.temperature, score)).mean() / 2


def view_pairs(x, p, score):
  values = [
    two_views("nt_xent", x.z[i], x.z[j], p.tau, score) for i in range(len(x.z)) for j in range(i)
  ]
  return jnp.stack(values).mean()


def examples(x):
  """All views of all examples, and which example each shows."""
  return x.z.reshape(-1, x.z.shape[-1]), jnp.tile(jnp.arange(x.z.shape[1]), x.z.shape[0])


def paired_negatives(x, p, score):
  negatives = jnp.stack([x.neg, -0.5 * x.neg], 1)
  return one_way(x.q, x.k, negatives, p.temperature, score).mean()


def moco_v3_both(x, p, score):
  one = one_way(x.q1, x.k2, None, p.temperature, score)
  return 2 * p.temperature * (one + one_way(x.q2, x.k1, None, p.temperature, score)).mean()


def queue_as_it_is(x, p, score, keys=unit):
  """Queries normalized inside, and keys, but not the queue."""
  return one_way(unit(x.q), keys(x.k), x.queue, p.temperature, score).mean()


def imix(x, p, score):
  """An anchor is λ of its own example and 1 − λ of its partner."""
  own = jnp.eye(len(x.q))
  targets = x.lam[:, None] * own + (1 - x.lam[:, None]) * own[x.perm]
  queue = getattr(x, "queue", x.k[:0])
  targets = jnp.pad(targets, ((0, 0), (0, len(queue))))
  return soft(x.q, jnp.concatenate([x.k, queue]), targets, p.temperature).mean()


def mochi(x, p, score):
  """Mixes of the hardest negatives, with the draws that are given."""
  q, index, none = unit(x.q), jnp.arange(len(x.q)), -jnp.ones(len(x.queue), int)
  anchors = group(q, index, view=0)
  keys = group(unit(x.k)[:, None], index[:, None], view=1, as_negative=0.0)
  queue = group(x.queue, none, view=1, as_positive=0.0)
  hard = negatives.hardest(anchors, (queue,), p.n_hard, relation=same_example()).vectors
  a, b, c = (jnp.take_along_axis(hard, of[..., None], 1) for of in (x.i1, x.i2, x.i3))
  own = jnp.broadcast_to(q[:, None], c.shape)
  share = x.al[..., None], 1 - x.be[..., None] / 2
  mixes = [negatives.between(a, b, share[0]), negatives.between(c, own, share[1])]
  mixes = jax.lax.stop_gradient(jnp.concatenate(mixes, 1))
  mixes = group(mixes, -jnp.ones(mixes.shape[:2], int), view=1, as_positive=0.0)
  return criteria.evaluate(
    criteria.info_nce(), anchors, (keys, queue, mixes),
    relation=same_example(), temperature=p.temperature,
  ).value.mean()  # fmt: skip


def ressl(x, p, score):
  targets = jax.lax.stop_gradient(jax.nn.softmax(x.k @ x.queue.T / 0.04, axis=1))
  return soft(x.q, x.queue, targets, p.temperature, score).mean()


def dialog2flow(x, p, score):
  def one(a, b):
    if p.soft:
      own = {"temperature": p.tau, "guide_temperature": p.soft_label_tau}
      return losses.soft_contrastive(a, b, x.le[x.lab], **own).mean()
    same = x.lab[:, None] == x.lab
    return soft(a, b, same / same.sum(1, keepdims=True), p.tau).mean()

  return (one(x.a, x.b) + one(x.b, x.a)) / 2 if p.symmetric else one(x.a, x.b)


def clip_distilled(x, p, score):
  logits = x.ta @ x.tb.T / p.teacher_tau
  forth = soft(x.a, x.b, jax.nn.softmax(logits, axis=1), tau_of(x, p), score)
  back = soft(x.b, x.a, jax.nn.softmax(logits.T, axis=1), tau_of(x, p), score)
  return (clip(x.a, x.b, tau_of(x, p), score) + (forth + back) / 2).mean()


def hard_pairs(x, p, score):
  values = two_views("hard_negative", x.a, x.b, p.tau, score, beta=1.0, tau_plus=0.0)
  return average(values, jnp.tile(x.lab, 2) > 0)


def labeled_of(x):
  """Vectors and labels; of two views, both."""
  if hasattr(x, "x"):
    return x.x, x.y
  return jnp.concatenate([x.z1, x.z2]), jnp.concatenate([x.y, x.y])


def others_of_its_class(label):
  return (label[:, None] == label).sum(1) - 1


def sup_con(x, p, score):
  return labeled("sup_con", *labeled_of(x), tau_of(x, p), score).mean()


def sup_con_view_0(x, p, score):
  return labeled("sup_con", *labeled_of(x), p.temperature, score)[: len(x.z1)].mean()


def sup_con_of_those_with_positives(x, p, score):
  z, label = labeled_of(x)
  values = labeled("sup_con", z, label, p.temperature, score)
  return average(values, others_of_its_class(label) > 0)


def sup_con_memory(x, p, score):
  candidates, label = with_memory(x.x, x.y, x.queue, x.qy)
  index = jnp.arange(len(candidates))
  return criteria.evaluate(
    criteria.info_nce(),
    group(x.x, index[: len(x.x)], view=0, label=x.y), (group(candidates, index, view=0, label=label),),
    relation=same_label(), temperature=p.temperature,
  ).value.mean()  # fmt: skip


def sup_con_in(x, p, score, cut=0.0):
  """Without 1/|P| under the logarithm. Of anchors whose positives' mass, e^−L, is above `cut`."""
  z, label = labeled_of(x)
  count = others_of_its_class(label)
  values = labeled("sup_con_in", z, label, p.temperature, score) - jnp.log(jnp.maximum(count, 1))
  return average(values, (count > 0) & (jnp.exp(-values) > cut))


def pairs_mean(x, p, score, cut=0.0):
  """Over pairs; of those whose positive's mass, e^−L, is above `cut`."""
  values, kept = pairs(x.x, x.y, p.temperature)
  return average(values, kept & (jnp.exp(-values) > cut))


def pairs_mean_by_anchor(x, p, score):
  values, kept = pairs(x.x, x.y, p.temperature)
  count = kept.sum(1)
  return average(values.sum(1) / jnp.maximum(count, 1), count > 0)


def pairs_memory(x, p, score):
  return average(*pairs(x.x, x.y, p.temperature, *with_memory(x.x, x.y, x.queue, x.qy)))


def clip_personal(x, p, score):
  tau = (x.ti[x.ix, 0], x.tt[x.ix, 0]) if hasattr(x, "ti") else p.tau
  return clip(x.a, x.b, tau, score).mean()


def clip_of_three(x, p, score):
  two = ((x.r0, x.r1), (x.r1, x.r2), (x.r0, x.r2))
  return sum(clip(a, b, tau_of(x, p), score).mean() for a, b in two)


def siglip(x, p, score):
  return losses.siglip(x.a, x.b, temperature=tau_of(x, p), bias=x.bias).mean()


def ranking(x, p, score):
  """Multiple negatives ranking: the hard negatives of all are candidates of all."""
  score = dot() if getattr(p, "similarity", None) == "dot" else score
  negatives = getattr(x, "n", None)
  in_batch = negatives is not None
  return one_way(x.a, x.p, negatives, tau_of(x, p), score, in_batch=in_batch).mean()


def ranking_both_ways(x, p, score):
  return (ranking(x, p, score) + one_way(x.p, x.a, None, tau_of(x, p), score).mean()) / 2


def ranking_directions(x, p, score):
  both = getattr(p, "partition", None) == "per_direction"
  return (ranking_both_ways if both else ranking)(x, p, score)


def matryoshka(x, p, score):
  weights = p.weights or [1.0] * len(p.dims)
  values = [one_way(x.a[:, :d], x.p[:, :d], None, p.tau, score).mean() for d in p.dims]
  return sum(weight * value for weight, value in zip(weights, values, strict=True))


def simcse(x, p, score):
  if not hasattr(x, "c"):
    return one_way(x.a, x.b, None, p.tau, score).mean()
  n = len(x.a)  # e^w is the weight of an anchor's own hard negative
  weight = jnp.where(jnp.eye(n, dtype=bool), jnp.exp(p.hard_negative_weight_logit), 1)
  negatives = jnp.broadcast_to(x.c, (n, *x.c.shape))
  return one_way(x.a, x.b, negatives, p.tau, score, in_batch=True, weight=weight).mean()


def angle_in_batch(x, p, score):
  if p.fn == "contrastive_with_negative_loss":
    return ranking(x, p, score)
  return (two_views("nt_xent", x.a, x.p, tau_of(x, p), score) * jnp.tile(x.y, 2)).mean()


def two_sets(x):
  return (x.z1, x.z2) if hasattr(x, "z1") else (x.a, x.b)


def align_and_uniform(x, p, score):
  a, b = two_sets(x)
  even = (evaluation.uniformity(a, t=p.t) + evaluation.uniformity(b, t=p.t)) / 2
  return evaluation.alignment(a, b, alpha=p.alpha) + getattr(p, "lam", 1) * even


def labeled_loss(name, *, over="all", normal=False, **fixed):
  """A loss of labeled vectors: the mean over all, over those above 0, or of those with positives."""

  def row(x, p, score):
    own = {
      ours: getattr(p, theirs) if isinstance(theirs, str) else theirs
      for ours, theirs in fixed.items()
    }
    values = getattr(losses, name)(unit(x.x) if normal else x.x, x.y, **own)
    kept = {
      "all": jnp.full(len(values), True),
      "not 0": values != 0,
      "with positives": others_of_its_class(x.y) > 0,
    }[over]
    return average(values, kept)

  return row


def triplet(mining, **more):
  """`mining`, the word, is not a parameter of the case."""

  def row(x, p, score):
    p.mining = mining
    return labeled_loss("triplet", margin="margin", mining="mining", **more)(x, p, score)

  return row


def with_proxies(name, **fixed):
  def row(x, p, score):
    own = {ours: theirs(p) for ours, theirs in fixed.items()}
    return getattr(losses, name)(x.x, x.y, x.W, **own).mean()

  return row


MARGIN = with_proxies("arcface", margin=lambda p: p.margin, scale=lambda p: p.scale)
COSINE_MARGIN = with_proxies("cosface", margin=lambda p: p.margin, scale=lambda p: p.scale)


def multi_similarity(over="all", margin=0.1):
  def row(x, p, score):
    own = {"alpha": p.alpha, "beta": p.beta, "base": 0.5, "margin": margin}
    values = losses.multi_similarity(x.x, x.y, **own)
    return average(values, values != 0) if over == "not 0" else values.mean()

  return row


def neighbors(x, p, score):
  tau = p.temperature if hasattr(p, "temperature") else 1 / p.softmax_scale
  z = unit(x.x) if hasattr(p, "softmax_scale") else x.x
  values = losses.soft_nearest_neighbor(z, x.y, temperature=tau)
  return (
    average(values, others_of_its_class(x.y) > 0) if hasattr(p, "softmax_scale") else values.mean()
  )


def spectral(x, p, score):
  return losses.spectral(x.z1, x.z2, max_length=p.mu**0.5).mean() / p.mu


def cacr(x, p, score):
  views = jnp.stack([getattr(x, f"r{view}") for view in range(p.views)])
  return losses.cacr(views, t_plus=p.tau_pos, t_minus=p.tau_neg).mean()


def on_views(name):
  return lambda x, p, score: getattr(losses, name)(x.z, temperature=p.tau).mean()


def dhel_of_the_rest(x, p, score):
  u = unit(x.z)
  rest = (u.sum(0) - u) / (len(u) - 1)
  return jnp.stack([losses.dhel(u[a], rest[a], temperature=p.tau) for a in range(len(u))]).mean()


def dhel_of_pairs(x, p, score):
  pairs = [(a, b) for a in range(len(x.z)) for b in range(a)]
  return jnp.stack([losses.dhel(x.z[a], x.z[b], temperature=p.tau) for a, b in pairs]).mean()


def symile(x, p, score):
  m = getattr(p, "modalities", 3)
  drawn = None
  if p.negative_sampling == "n":
    drawn = jnp.stack(
      [jnp.stack([getattr(x, f"out_perm{a}_{k}") for k in range(m - 1)]) for a in range(m)]
    )
  modalities = [getattr(x, f"r{a}") for a in range(m)]
  return losses.symile(*modalities, temperature=tau_of(x, p), shuffles=drawn).mean()


def simco(x, p, score):
  def one(a, b):
    own = {"temperature": p.tau_intra, "inter_temperature": p.tau_intra * p.dt_m}
    return losses.dual_temperature(a, b, **own).mean()

  return one(x.a, x.b) if p.direction == "a->b" else one(x.a, x.b) + one(x.b, x.a)


def groco(x, p, score):
  return losses.group_ordering(
    x.z1, x.z2, k=p.topk, steepness=p.steepness, detach_candidates=p.stop_grad
  ).mean()


def rince(x, p, score):
  own = {"temperature": p.temperature, "q": p.q, "weight": p.lam}
  return jnp.exp(p.q / p.temperature) * losses.rince(x.z1, x.z2, **own).mean()


def barlow_twins(eps=1e-5):
  return lambda x, p, score: losses.barlow_twins(x.z1, x.z2, redundancy_weight=p.lambd, eps=eps)


def vicreg(variances=1):
  return lambda x, p, score: losses.vicreg(
    x.z1, x.z2, invariance_weight=p.sim, variance_weight=variances * p.var, covariance_weight=p.cov
  )


def both_gradients(x, p, score):
  """Of the targets too, which public code detaches elsewhere."""
  there, back = losses.negative_cosine(x.z1, x.z2), losses.negative_cosine(x.z2, x.z1)
  return (there + back - jax.lax.stop_gradient(back)).mean()


def simsiam_both(x, p, score):
  there, back = losses.negative_cosine(x.p1, x.z2), losses.negative_cosine(x.p2, x.z1)
  return (there + back).mean() / 2


def swav(x, p, score):
  assigned = [losses.sinkhorn(z, epsilon=p.epsilon, iterations=p.iters) for z in (x.z1, x.z2)]
  return losses.swapped_prediction(
    jnp.stack([x.z1, x.z2]), jnp.stack(assigned), temperature=p.temperature
  ).mean()


def dino(x, p, score):
  return losses.self_distillation(
    jnp.stack([x.s1, x.s2]), jnp.stack([x.t1, x.t2]), center=x.center,
    temperature=p.temperature, teacher_temperature=p.teacher_temp,
  ).mean()  # fmt: skip


def words(text):
  return text.split()


NT_XENT, IN_BATCH, QUEUE = (
  views_mean("nt_xent"), one_way_mean("z1", "z2"), one_way_mean("q", "k", "queue"),
)  # fmt: skip
ROWS = {
  "ntxent": NT_XENT,
  "ntxent__pml_selfsup_asym": IN_BATCH,
  "ntxent__pygcl_oneway": views_mean("nt_xent", view=0),
  "ntxent__suncet": nt_xent_detached,
  "ntxent__supcontrast_official_base07": times(lambda tau: tau / 0.07, NT_XENT),
  "ntxent_sum2": times(2, NT_XENT),
  "nt_xent": NT_XENT,
  "nnclr_ntxent": nearest_neighbors,
  "avg_infonce": view_pairs,
  "pwe_infonce": view_pairs,
  "mv_ntxent": lambda x, p, score: labeled("sup_con", *examples(x), p.tau, score).mean(),
  "polyview_geometric": on_views("poly_view"),
  "infonce_inbatch": IN_BATCH,
  "infonce_inbatch_extraneg": one_way_mean("z1", "z2", "z3", in_batch=True),
  "infonce_paired": paired_negatives,
  "infonce_refposneg": one_way_mean("ref", "pos", "neg", loss="dcl"),
  "infonce_sym": clip_mean("z1", "z2"),
  "nnclr": IN_BATCH,
  "mocov3": times(lambda tau: 2 * tau, IN_BATCH),
  "mocov3__mmpretrain": IN_BATCH,
  "moco_queue__mmpretrain": queue_as_it_is,
  "mocov3__official_sym": moco_v3_both,
  "moco_queue": QUEUE,
  "moco_queue__vissl": functools.partial(queue_as_it_is, keys=lambda k: k),
  "imix": imix,
  "mochi": mochi,
  "ressl": ressl,
  "dcl": views_mean("dcl"),
  "dcl__raminnakhli": views_mean("dcl", view=0),
  "dcl__raminnakhli_sym": times(2, views_mean("dcl")),
  "dclw": views_mean("dclw", "sigma"),
  "debiased": views_mean("debiased", "tau_plus"),
  "debiased__hcl_beta0": views_mean("hard_negative", "tau_plus", "beta"),
  "hcl": views_mean("hard_negative", "tau_plus", "beta"),
  "dse_hard_negative": hard_pairs,
  "supcon": sup_con,
  "supcon__official_1view_base07": times(lambda tau: tau / 0.07, sup_con),
  "supcon__pml": sup_con_of_those_with_positives,
  "supcon_2view": sup_con,
  "supcon_2view__official_all_base07": times(lambda tau: tau / 0.07, sup_con),
  "supcon_2view__official_one": sup_con_view_0,
  "supcon_in": sup_con_in,
  "supcon_in__bosch_rince": functools.partial(sup_con_in, cut=1e-7),
  "supcon_2view_in": sup_con_in,
  "supcon_pairdenom": pairs_mean,
  "supcon_pairdenom__bosch_rince": functools.partial(pairs_mean, cut=1e-7),
  "supcon_pairdenom__solo_learn_pypi": pairs_mean_by_anchor,
  "xbm__pml_supcon": sup_con_memory,
  "xbm__pml_ntxent": pairs_memory,
  "clip": clip_mean("a", "b"),
  "clip__isogclr_repo": clip_personal,
  "clip_distill": clip_distilled,
  "pairwise_clip3": clip_of_three,
  "siglip": siglip,
  "mnrl": ranking_directions,
  "cached_mnrl": ranking,
  "mnr_symmetric": ranking_both_ways,
  "matryoshka_mnrl": matryoshka,
  "simcse": simcse,
  "diffcse_contrastive": simcse,
  "inbatch_negative": angle_in_batch,
  "dialog2flow_soft": dialog2flow,
  "triplet_labels_all": triplet("batch all"),
  "triplet_labels_all__pml": triplet("batch all", normal=True),
  "triplet_labels_batchhard": triplet("batch hard"),
  "triplet_labels_batchhard__pml": triplet("batch hard", normal=True, over="not 0"),
  "triplet_labels_batchhard__pml_meanreducer": triplet(
    "batch hard", normal=True, over="with positives"
  ),
  "triplet_labels_semihard": triplet("semi-hard"),
  "npairs": lambda x, p, score: losses.n_pairs(x.x, x.z, x.y, l2_weight=p.l2_reg).mean(),
  "circle_anchor": labeled_loss("circle", margin="m", scale="gamma"),
  "circle_anchor__pml": labeled_loss("circle", margin="m", scale="gamma", over="not 0"),
  "multi_similarity": multi_similarity(),
  "multi_similarity__confusezius": multi_similarity(over="not 0"),
  "multi_similarity_nomine": multi_similarity(margin=None),
  "nca": neighbors,
  "proxynca": with_proxies(
    "proxy_nca", temperature=lambda p: 1 / p.softmax_scale, own_in_denominator=lambda p: True
  ),
  "proxynca_excl": with_proxies("proxy_nca", temperature=lambda p: 1 / 9),
  "arcface": MARGIN,
  "cosface": COSINE_MARGIN,
  "spectral": spectral,
  "cacr": cacr,
  "mv_infonce": on_views("mv_info_nce"),
  "mv_dhel": on_views("mv_dhel"),
  "mv_dhel_avg": dhel_of_the_rest,
  "mv_dhel_pwe": dhel_of_pairs,
  "dhel": lambda x, p, score: losses.dhel(x.z[0], x.z[1], temperature=p.tau).mean(),
  "symile": symile,
  "simco": simco,
  "groco": groco,
  "rince_robust": rince,
  "barlow_twins": barlow_twins(),
  "barlow_twins__tf_similarity": barlow_twins(eps=0.0),
  "barlow_twins__solo_learn_scaled": times(0.025, barlow_twins()),
  "vicreg": vicreg(),
  "vicreg_sumvar": vicreg(variances=2),
  "wmse": lambda x, p, score: losses.w_mse(*two_sets(x), shrinkage=p.eps).mean(),
  "koleo": lambda x, p, score: losses.koleo(*vectors_of(x)).mean(),
  "koleo__spreadingvectors_official": lambda x, p, score: (
    losses.koleo(x.x).mean() - jnp.log(len(x.x))
  ),
  "byol": lambda x, p, score: 2 + 2 * both_gradients(x, p, score),
  "simsiam": both_gradients,
  "simsiam_sym": simsiam_both,
  "swav": swav,
  "dino": dino,
  "dino_sum": times(2, dino),
  "alignment": lambda x, p, score: evaluation.alignment(x.z1, x.z2, alpha=p.alpha),
  "uniformity": lambda x, p, score: evaluation.uniformity(x.x, t=p.t),
  "align_uniform": align_and_uniform,
  "hypersphere": align_and_uniform,
  "effective_rank": lambda x, p, score: evaluation.effective_rank(x.a),
}
"""Of a LOSS, or of a LOSS__IMPLEMENTATION that differs from the others of its loss."""

SCORES = {
  **dict.fromkeys(
    words("""ntxent__debiased_repo_biased ntxent__hcl_easy ntxent__htdt_nonorm ntxent__lightning_bolts
    ntxent__selfclean_dot ntxent__supcontrast_official ntxent__supcontrast_official_base07
    ntxent_sum2__google_simclr_tf2_nonorm infonce_refposneg__cebra_cosine moco_queue__solo_learn
    moco_queue__sslsv moco_queue__vissl moco_queue__mmpretrain ressl__solo_learn dcl__raminnakhli debiased__official
    debiased__hcl_beta0 hcl__official_hard supcon__official_1view supcon__official_1view_base07
    supcon_2view__official_all supcon_2view__official_all_base07 supcon_2view__official_one
    clip__open_clip clip__transformers clip__isogclr_repo clip_distill__open_clip
    pairwise_clip3__symile_repo siglip__open_clip
    alignment__official uniformity__official align_uniform__official cacr__official_small
    symile__pypi symile__experiments simco__official rince_robust__official_simclr
    multi_similarity__official multi_similarity__confusezius"""),
    dot(),
  ),
  "infonce_refposneg__cebra_euclidean": negative_squared_distance(),
}
"""The score of those that do not normalize. If it is the dot product and all vectors are unit
vectors, the loss on arrays is compared as well, to what remains of the gradient."""

ON_ARRAYS_ONLY = words("""
  siglip__open_clip alignment__official uniformity__official align_uniform__official
  cacr__official_small symile__pypi symile__experiments simco__official
  rince_robust__official_simclr multi_similarity__official multi_similarity__confusezius
""")
"""Do not normalize, and there is nothing on groups."""

# What is left out, and why: losses, implementations, and single cases.

NO_SUCH_LOSS = words("""
  adaptive_layer_2dmse albef_ita amcl angle angular barlow_twins_hsic barlow_twins_unbiased
  batch_independent_sgd_ntx beclr beclr_opta cacr_rbf care circle_global circle_softmax
  circle_tfsim cmcl_1tok coca contrastive_cosmargin contrastive_margin cosent cyclip
  dystress fastclip_logspace fastclip_v0v1 fastclip_v2_individual fastclip_v3 gist gor
  imix_byol isogclr_bi isogclr_uni isogclr_uni_v2_sqh kcl lifted lifted_generalized macl
  mmcl_inv mmcr mv_cl1 mv_cl2 ncl normsoftmax npairs_labels pairwise_cosface
  polyview_arithmetic proxy_anchor relic rince_robust_moco soft_nearest_neighbor_cos sogclr_bi
  sogclr_bi_globaltau sogclr_bi_logspace sogclr_uni supcon_in_ratio swav_joint synco
  tau_simclr_uncertainty tcl_ita tico triplet_explicit triplet_explicit_cosine
  triplet_explicit_manhattan triplet_explicit_soft triplet_explicit_sq triplet_explicit_swap
  triplet_labels_all_smooth triplet_labels_all_swap triplet_labels_batchhard_soft
  triplet_labels_semihard_sq triplet_labels_weighted vicreg_tfsim xbm
""")
NO_LOSS = words("""
  cka cluster_indices hard_negative_filter isoscore ncl_metrics rankme symile_zeroshot_logits
  temperature_schedule_cos wasserstein_uniformity weighted_knn
""")
LEFT_OUT = {
  **dict.fromkeys(NO_SUCH_LOSS, "contrastax has no such loss yet"),
  **dict.fromkeys(NO_LOSS, "no loss, but a measure, a rule or a schedule"),
  "clusterns": "its hard negatives are compared in test_sources.py; the margin loss is none of ours",
  "dclr": "its noise is compared in test_syntheses.py; its loss keeps e^0 for what it drops",
  "supcon__guillaume_erhard": "adds 1e-5 to every exponential",
  "dclw__raminnakhli": "its weights carry gradient",
  "hcl__pygcl_repo": "weighs whole rows by their sums, not pairs",
  "triplet_labels_all__pml_meanreducer": "averages over all triplets, not the violating ones",
  "triplet_labels_all__sentence_transformers_cos": "another distance",
  "triplet_labels_batchhard__sentence_transformers_cos": "another distance",
  "triplet_labels_batchhard__fastreid_cos": "another distance",
  "triplet_labels_semihard__sentence_transformers_cos": "another distance",
  "triplet_labels_semihard__pml": "takes every semi-hard negative, not the nearest",
  "soft_nearest_neighbor": "adds 1e-9 or 1e-5 under the logarithm",
  "proxynca__dichotomies": "scales proxies and vectors differently, and smooths labels",
  "arcface__fastreid": "has no second case for wide angles",
  "arcface__confusezius": "raises negative cosines to 0",
  "simco__isogclr_repo": "takes the logarithm at temperature 1",
  "cacr__official_imagenet": "another cost, another sum and detached weights",
}


def largest_square(x):
  return max((z**2).sum(1).max() for z in vectors_of(x))


def vectors_of(x):
  return [z for z in vars(x).values() if z.ndim == 2 and z.shape[1] > 1]


def all_unit(x):
  return all(np.allclose((z**2).sum(1), 1, rtol=0, atol=1e-12) for z in vectors_of(x))


def underflows(p, x):
  z = np.concatenate(vectors_of(x))
  logits = z @ z.T / p.temperature
  others = np.where(np.eye(len(z)), -np.inf, logits).max(1)
  return (logits.max(1) - others > 700).any()


def a_loss_is_0_to_rounding(p, x):
  """An anchor's one positive is nearer than anything else by 25 temperatures."""
  z, label = labeled_of(x)
  z = z / np.linalg.norm(z, axis=1, keepdims=True)
  logits = np.where(np.eye(len(z)), -np.inf, z @ z.T / p.temperature)
  same = (label[:, None] == label) & ~np.eye(len(z), dtype=bool)
  nearest_other = np.where(same, -np.inf, logits).max(1)
  return ((same.sum(1) == 1) & (np.where(same, logits, -np.inf).max(1) > nearest_other + 25)).any()


NOT_UNIT = "does not normalize, as ours does, and these are not unit vectors"
DROPS = "drops anchors whose loss is 0 to rounding from the mean"
LEAKS = "masks a vector itself by −103 only, and its own logit is above 60"
UNDERFLOWS = "subtracts a row's maximum, the vector itself: e^−700 and less is left of the others"
EQUAL = "equal vectors: adds to their distance, or halves no gradient among them"
LOOSER = {
  "koleo": (1e-6, "adds 1e-8 to a distance and its entries"),
  "koleo__spreadingvectors_official": (1e-5, "adds 1e-6 to a distance's entries"),
  "npairs": (1e-7, "has targets of float32"),
}
"""Compared to fewer digits than float64 has, and why."""


def two_are_equal(p, x):
  (z,) = vectors_of(x)
  return len(np.unique(z, axis=0)) < len(z)


def at_the_limit(p, x):
  lengths = np.concatenate([np.linalg.norm(z, axis=1) for z in vectors_of(x)])
  return np.isclose(lengths, p.mu**0.5, rtol=1e-12, atol=0).any()


MEAN_OF_ALL = words("sentence_transformers_euc fastreid_euc open_reid")
CASES_LEFT_OUT = (
  *((file, underflows, UNDERFLOWS) for file in SCORES if "official" in file and "supcon" in file),
  *((file, lambda p, x: not all_unit(x), NOT_UNIT) for file in ON_ARRAYS_ONLY),
  *((f"triplet_labels_batchhard__{code}", lambda p, x: (others_of_its_class(x.y) == 0).any(),
     "an anchor without a positive counts, at distance 0") for code in MEAN_OF_ALL),
  *((file, two_are_equal, EQUAL) for file in words("koleo triplet_labels_batchhard__fastreid_euc "
    "triplet_labels_batchhard__open_reid triplet_labels_semihard")),
  ("spectral", at_the_limit, "a vector as long as the limit, which rounding puts on either side"),
  ("cacr", lambda p, x: (p.alpha, p.beta, p.choice, p.with_debiased) != (1, 1, "full", False),
   "an ablation, or the terms' own factors"),
  ("dhel", lambda p, x: not p.include_augs, "leaves one view's energy out"),
  ("avg_infonce", lambda p, x: p.V > 2, "does not normalize the mean of the other views again"),
  ("dcl__raminnakhli", lambda p, x: largest_square(x) / p.temperature > 60, LEAKS),
  ("dcl__raminnakhli_sym", lambda p, x: 1 / p.temperature > 60, LEAKS),
  ("debiased__pygcl_repo", lambda p, x: p.temperature < 0.05,
   "takes a vector itself away from the sum by subtraction, of e^100 at temperature 0.01"),
  ("supcon__pml", a_loss_is_0_to_rounding, DROPS),
  ("supcon_2view__pml", a_loss_is_0_to_rounding, DROPS),
  ("dialog2flow_soft", lambda p, x: p.use_abs, "takes absolute values of its labels' cosines"),
  ("clip__isogclr_repo", lambda p, x: getattr(p, "tau_shape", "").startswith("[N] "),
   "divides by the candidate's temperature, not the anchor's"),
  ("mnrl", lambda p, x: hasattr(p, "hardness_mode"), "adds its similarity to a negative's logit"),
  ("mnrl", lambda p, x: getattr(p, "partition", "") == "joint" and len(p.directions) > 1,
   "one softmax over the pairs of several anchors"),
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Case:
  """One case of one file; `left_out`: why it is not compared, or None."""

  file: str
  meta: dict
  left_out: str | None

  def __str__(self):
    return f"{self.file}-{self.meta['case']}"

  @property
  def loss(self):
    return self.file.split("__")[0]


def entry(table, file):
  """A table's entry for an implementation, else for its loss."""
  return table.get(file, table.get(file.split("__")[0]))


def arrays_of(arrays, meta):
  """Inputs and learned scalars, value, and gradients."""
  inputs = {name: arrays[key] for name, key in meta["inputs"].items()}
  drawn = f"case{meta['case']}_out_perm"
  inputs |= {key.partition("_")[2]: arrays[key] for key in arrays if key.startswith(drawn)}
  inputs |= {name: np.float64(value) for name, value in meta.get("scalars", {}).items()}
  gradients = {name: arrays[f"case{meta['case']}_grad_{name}"] for name in meta["grads"]}
  return inputs, arrays[f"case{meta['case']}_value"], gradients


def why_left_out(file, meta, arrays):
  if file in LEFT_OUT or entry(ROWS, file) is None:
    return entry(LEFT_OUT, file) or "unknown"
  if "raises" in meta:
    return "raises"
  inputs, value, gradients = arrays_of(arrays, meta)
  if not all(np.isfinite(found).all() for found in (value, *gradients.values())):
    return "its value or its gradient is not finite"
  for name, of_case, reason in CASES_LEFT_OUT:
    p, x = types.SimpleNamespace(**meta["params"]), types.SimpleNamespace(**inputs)
    if name in (file, file.split("__")[0]) and of_case(p, x):
      return reason


def read():
  for path in sorted(FOLDER.glob("*.npz")):
    arrays = np.load(path)
    about = json.loads(str(arrays["meta"])) if "meta" in arrays else {}
    if "records" in about:
      continue  # the layout of tests/records.py
    for meta in about.get("cases", [{"case": 0}]):
      yield Case(path.stem, meta, why_left_out(path.stem, meta, arrays))


CASES = list(read())


@functools.cache
def load(file):
  return dict(np.load(FOLDER / f"{file}.npz"))


@functools.cache
def compiled(row, score, static):
  static = json.loads(static)

  def value(wanted, others, numbers):
    x, p = types.SimpleNamespace(**wanted, **others), types.SimpleNamespace(**static, **numbers)
    return row(x, p, score)

  return jax.jit(jax.value_and_grad(value))


def evaluate(row, score, inputs, names, params):
  """Our value, and its gradients by the named inputs."""
  factor = 1.0
  if isinstance(row, times):
    factor = row.factor(params["temperature"]) if callable(row.factor) else row.factor
    row = row.row
  inputs = {k: v.astype(np.float64) if v.dtype.kind == "f" else v for k, v in inputs.items()}
  numbers = {k: v for k, v in params.items() if k in ("temperature", "tau", "scale")}
  static = json.dumps({k: v for k, v in params.items() if k not in numbers}, sort_keys=True)
  others = {k: v for k, v in inputs.items() if k not in names}
  found = compiled(row, score, static)({k: inputs[k] for k in names}, others, numbers)
  return jax.tree.map(lambda x: factor * np.asarray(x), found)


def comparisons(file, inputs):
  """Of which scores, and whether to the gradients' projections."""
  score = SCORES.get(file)
  if file not in ON_ARRAYS_ONLY:
    yield score, False
  if score == dot() and all_unit(types.SimpleNamespace(**inputs)):
    yield None, True


@pytest.mark.parametrize("case", [case for case in CASES if not case.left_out], ids=str)
def test_ours_is_what_public_code_computes(float64, case):
  inputs, value, gradients = arrays_of(load(case.file), case.meta)
  params = case.meta["params"]
  tau = params.get("temperature", params.get("tau", 1 / params.get("scale", 1)))
  # To 1e-9, of a gradient's largest entry. But a value is a difference of logits: float64 leaves
  # 1e-15 of the largest of them, 1e-13 at temperature 0.01, and float32 some 1e-6.
  largest = (largest_square(types.SimpleNamespace(**inputs)) if case.file in SCORES else 1) / tau
  double = case.meta["dtype"] == "float64"
  rtol, floor = (1e-9, 1e-15 * largest) if double else (2e-6 * largest,) * 2
  rtol, _ = entry(LOOSER, case.file) or (rtol, "")
  compared = False
  for score, projected in comparisons(case.file, inputs):
    row = entry(ROWS, case.file)
    found, found_gradients = evaluate(row, score, inputs, list(gradients), params)
    np.testing.assert_allclose(found, value, rtol=rtol, atol=floor)
    for name, expected in gradients.items():
      if projected and expected.ndim == 2 and expected.shape[1] > 1:
        expected = tangent(expected, inputs[name])
      atol = rtol * np.abs(expected).max() + floor
      np.testing.assert_allclose(found_gradients[name], expected, rtol=0, atol=atol, err_msg=name)
    compared = True
  assert compared


def summarize(terminalreporter):
  """The table at the end of the run, which conftest.py asks for."""
  passed = {report.nodeid for report in terminalreporter.stats.get("passed", ())}
  of_test = f"tests/test_golden.py::{test_ours_is_what_public_code_computes.__name__}"
  agree = collections.Counter(case.loss for case in CASES if f"{of_test}[{case}]" in passed)
  write = terminalreporter.write_line
  files = collections.Counter(loss for loss, _ in {(case.loss, case.file) for case in CASES})
  compared = collections.Counter(case.loss for case in CASES if not case.left_out)
  left_out = collections.Counter(case.loss for case in CASES if case.left_out)
  single = sum(case.meta["dtype"] == "float32" for case in CASES if not case.left_out)
  terminalreporter.section(f"public implementations, {FOLDER.name}: {len(CASES)} cases")
  row = "{:26}{:>7}{:>10}{:>7}{:>10}".format
  write(row("loss", "files", "compared", "agree", "left out"))
  for loss in sorted(compared):
    write(row(loss, files[loss], compared[loss], agree[loss], left_out[loss]))
  write(row("others", sum(files[loss] for loss in files if loss not in compared), 0, 0,
            sum(left_out[loss] for loss in left_out if loss not in compared)))  # fmt: skip
  write(row("in all", files.total(), compared.total(), agree.total(), left_out.total()))
  for name, (rtol, why) in LOOSER.items():
    write(f"{name} is compared to {rtol:g}: {why}")
  write(f"{single} of those compared ran in float32 and are compared to its precision")
  reasons = collections.defaultdict(collections.Counter)
  for case in CASES:
    if case.left_out:
      reasons[case.left_out][case.file if entry(ROWS, case.file) else case.loss] += 1
  for reason, of in reasons.items():
    names = ", ".join(f"{name} {count}" for name, count in of.items())
    text = f"{of.total()} left out: {reason}: {names}"
    for line in textwrap.wrap(text, 98, subsequent_indent="  "):
      write(line)
