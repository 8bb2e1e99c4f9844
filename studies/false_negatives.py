"""Which negatives do the masks drop, and does dropping them help? Against true labels, on CIFAR-10.

16 runs of 1 to 2 minutes. SimCLR, 150,000 pairs in batches of 256, τ = 0.2, else as in
studies/common/cifar10.py, seeds 0 to 2. Arms, each trained with its mask of in-batch negatives:

  none         all of them
  similarity   `similarity_within(most=0.8)`
  clusters     `clusters(32)` and `negatives_differ("cluster")`; its centroids are additional
               negatives
  guide        `guide_below`: another model's cosine, of the encoder of `none` after a run with seed
               100, its features standardized; the limit is the 95 % quantile over drawn pairs,
               which needs no label
  oracle       `negatives_differ("label")`

A dropped negative is false if it has the anchor's class; a tenth of all negatives has. Precision is
the share of false ones among the dropped, recall that of dropped ones among the false, of one fixed
batch in states along the run. studies/hcl.py measures the same for weights, studies/mochi.py for a
queue.

Hypotheses, of the last state, means over seeds:
  better than chance   the precision of similarity, clusters and guide each exceeds 0.1 by more than
                       three standard errors
  guide                the guide has the highest precision of the three, by more than two standard
                       errors
  gain                 at least one of the three is above `none` by kNN, by more than two standard
                       errors
Condition of `gain`: the oracle is above `none` by more than two standard errors; else false
negatives do no harm here that a mask could remove.
"""

from __future__ import annotations

import dataclasses
import functools
import types

import jax.numpy as jnp
import numpy as np

from contrastax import data, evaluation, temperatures
from contrastax.core import key_for
from contrastax.negatives import clusters, in_batch
from contrastax.relations import guide_below, negatives_differ, same_example, similarity_within
from studies.common import cifar10, fit
from studies.common.report import Verdict, estimate, left_out, table, unpaired
from studies.common.study import Study, grid

ARMS, PAIRS, BATCH, LOOKS = ("none", "similarity", "clusters", "guide", "oracle"), 150_000, 256, 8
MASKS = ARMS[1:4]


def parts_of(arm, seed):
  train, relation = dict(cifar10.images().train), same_example()
  if arm == "guide":
    train["guide"], limit = guide()
    relation &= guide_below(limit)
  masks = {
    "similarity": similarity_within(most=0.8),
    "clusters": negatives_differ("cluster"),
    "oracle": negatives_differ("label"),
  }
  method, optimizer = cifar10.parts_of(cifar10.base(PAIRS, BATCH))
  method = dataclasses.replace(
    method, temperature=temperatures.fixed(0.2),
    negatives=in_batch() + clusters(32) if arm == "clusters" else in_batch(),
    relation=relation & masks[arm] if arm in masks else relation,
  )  # fmt: skip
  source = data.Resident(train, batch_size=BATCH, seed=seed)
  dataset = types.SimpleNamespace(train=train, test=cifar10.images().test)
  return types.SimpleNamespace(method=method, optimizer=optimizer, source=source, dataset=dataset)


def trained(arm, seed, look=lambda parts, state: None):
  """Returns (parts, last state, last metrics), after `look` at the states on the way."""
  parts, steps = parts_of(arm, seed), PAIRS // BATCH

  def at(state, t):
    if t % (steps // LOOKS) == 0 or t == steps:
      look(parts, state)

  state, metrics = fit.fit(
    parts.method, parts.optimizer, parts.source, steps=steps, seed=seed, look=at
  )
  return parts, state, metrics


@functools.cache
def guide():
  """Returns (features of all training images, the limit of their cosine)."""
  parts, state, _ = trained("none", 100)
  features = fit.embed(parts.method, state, parts.dataset.train["image"])
  features = (features - features.mean(0)) / features.std(0)
  features /= np.linalg.norm(features, axis=1, keepdims=True)
  drawn = features[np.random.default_rng(0).choice(len(features), 2_000, replace=False)]
  cosine = (drawn @ drawn.T)[~np.eye(len(drawn), dtype=bool)]
  return features.astype(np.float32), float(np.quantile(cosine, 0.95))


def measure(job):
  curve = []

  def look(parts, state):
    point = cifar10.in_training(parts, state) | {"dropped": dropped(parts, state)}
    curve.append({"step": int(state.step), **point})

  parts, state, metrics = trained(job["arm"], job["seed"], look)
  sets = parts.dataset.train, parts.dataset.test
  h = [fit.embed(parts.method, state, x["image"]) for x in sets]
  return {
    "knn": float(evaluation.knn(*fit.sets(parts.dataset, h))),
    "rank": float(evaluation.effective_rank(jnp.asarray(h[1][:2000]))),
    "finite": bool(np.isfinite(metrics["loss"])),
    "curve": curve,
  }


def dropped(parts, state):
  """Measures the negatives that the relation drops: share of all, precision and recall."""
  method = parts.method
  anchors, groups = cifar10.candidates(method, state, parts.source.batch(0), key_for(0, "curve"))

  def counted(relation):
    ranked = evaluation.ranked_negatives(anchors, groups, relation=relation, score=method.score)
    return int((~np.isnan(ranked.false)).sum()), int((ranked.false == 1).sum())

  (every, false), (kept, kept_false) = counted(same_example()), counted(method.relation)
  gone, gone_false = every - kept, false - kept_false
  precision = gone_false / gone if gone else None
  return {"share": gone / every, "precision": precision, "recall": gone_false / false}


def report(records):
  def drops(arm, key, at=-1):
    return records.values(lambda r: r["curve"][at]["dropped"][key], arm=arm).astype(float)

  yield (
    "SimCLR, ConvNet 32-64-128, 150,000 pairs, 3 seeds, mean ± standard error. Of the last state; "
    "a tenth of all negatives is false."
  )
  knn = {arm: records.values("knn", arm=arm) for arm in ARMS}
  keys = ("share", "precision", "recall")
  yield table(["mask", "kNN", "dropped", "precision", "recall"], [
    [arm, f"{estimate(knn[arm]):.3f}",
     *("" if arm == "none" else f"{estimate(drops(arm, key)):.3f}" for key in keys)] for arm in ARMS
  ])  # fmt: skip
  yield "Precision and recall over training, means:"
  yield table(["step", *MASKS], [
    [point["step"], *(
      f"{np.nanmean(drops(arm, 'precision', at)):.2f}, {drops(arm, 'recall', at).mean():.2f}"
      if drops(arm, "share", at).any() else "nothing dropped" for arm in MASKS)]
    for at, point in enumerate(records.where(arm="none")[0]["curve"])
  ])  # fmt: skip
  yield left_out(records.where(part="run"), "arm", "seed")
  precision = {arm: drops(arm, "precision") for arm in MASKS}
  above = {arm: unpaired(found, np.full(3, 0.1)) for arm, found in precision.items()}
  others = {arm: unpaired(precision["guide"], precision[arm]) for arm in MASKS[:2]}
  gains = {arm: unpaired(knn[arm], knn["none"]) for arm in ARMS[1:]}

  def told(leads):
    return ", ".join(f"{arm} {lead:+.3f}" for arm, lead in leads.items())

  yield Verdict(
    "better than chance", f"precision above 0.1: {told(above)}",
    all(e.above(3) for e in above.values())
  )  # fmt: skip
  yield Verdict(
    "guide", f"its precision above that of {told(others)}", all(e.above(2) for e in others.values())
  )
  yield Verdict(
    "gain", f"kNN above none: {told(gains)}", any(gains[arm].above(2) for arm in MASKS),
    gains["oracle"].above(2), "the oracle is above none",
  )  # fmt: skip


STUDY = Study(
  "false_negatives", "False negatives and masks on CIFAR-10", measure=measure, report=report,
  stages=[lambda _: grid(part=["run"], seed=range(3), arm=ARMS)],
)  # fmt: skip
