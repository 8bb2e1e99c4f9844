"""What implementations compute in terms of our losses, from inputs x, parameters p and a score."""

import dataclasses

import jax
import jax.numpy as jnp
from golden_ours import (
  both_views,
  clip,
  group,
  labeled,
  one_way,
  pairs,
  soft,
  two_views,
  with_memory,
)

from contrastax import criteria, evaluation, losses, negatives
from contrastax.pairwise import dot, unit
from contrastax.relations import same_example, same_label


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
