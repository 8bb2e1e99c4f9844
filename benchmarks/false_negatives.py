"""Which negatives do the masks drop, and does dropping them help? Against true labels, on CIFAR-10.

  python benchmarks/prepare_datasets.py cifar10
  python benchmarks/false_negatives.py run      # resumable; 16 runs of 1 to 2 minutes
  python benchmarks/false_negatives.py draw

SimCLR, 150,000 pairs in batches of 256, τ = 0.2, else benchmarks/cifar10_study.py, seeds 0 to 2. Arms, each
trained with its mask of in-batch negatives:

  none         all of them
  similarity   `similarity_within(most=0.8)`
  clusters     `clusters(32)` and `negatives_differ("cluster")`; its centroids are negatives besides
  guide        `guide_below`: another model's cosine, of the encoder of `none` after a run with seed 100, its
               features standardized; the limit is the 95 % quantile over drawn pairs, which needs no label
  oracle       `negatives_differ("label")`

A dropped negative is false if it has the anchor's class; a tenth has. Precision is the share of false ones
among the dropped, recall that of dropped ones among the false, of one fixed batch in states along the run.
`hcl.md` has the same of weights, `mochi.md` of a queue.

Hypotheses, of the last state, means over seeds:
  better than chance   the precision of similarity, clusters and guide each exceeds 0.1 by more than three
                       standard errors
  guide                the guide has the highest precision of the three, by more than two standard errors
  gain                 of the three at least one is above `none` by kNN, by more than two standard errors
A run counts if its loss stays finite and its rank is at least 3. `gain` counts as a test only if the oracle is
above `none` by more than two standard errors: else false negatives do no harm here that could be mended.
"""

from __future__ import annotations

import dataclasses
import functools
import pathlib
import sys
import types

import jax.numpy as jnp
import numpy as np
import optax
from cifar10_study import base, candidates, embed, in_training, lead, mean_error, read
from symile_xor import fill

from contrastax import core, data, evaluation, temperatures, training
from contrastax.core import key_for
from contrastax.negatives import clusters, in_batch
from contrastax.parts import assemble
from contrastax.relations import guide_below, negatives_differ, same_example, similarity_within

RESULTS = pathlib.Path(__file__).parent / "results" / "false_negatives.jsonl"
ARMS, SEEDS, GUIDE_SEED, LOOKS = (
  ("none", "similarity", "clusters", "guide", "oracle"), range(3), 100, 8,
)  # fmt: skip
MASKS = ARMS[1:4]


def parts_of(arm, seed):
  config = base(150_000, 256)
  images = data.load("tfds:cifar10")
  train, relation = dict(images.train), same_example()
  if arm == "guide":
    train["guide"], limit = guide()
    relation = relation & guide_below(limit)
  relation = {
    "similarity": relation & similarity_within(most=0.8),
    "clusters": relation & negatives_differ("cluster"),
    "oracle": relation & negatives_differ("label"),
  }.get(arm, relation)
  method = dataclasses.replace(
    assemble(core.Method, config.method.to_dict(), "config.method"),
    temperature=temperatures.fixed(0.2),
    negatives=in_batch() + clusters(32) if arm == "clusters" else in_batch(),
    relation=relation,
  )
  return types.SimpleNamespace(
    method=method,
    dataset=types.SimpleNamespace(train=train, test=images.test),
    source=data.Resident(train, batch_size=config.batch_size, seed=seed),
    optimizer=assemble(
      optax.GradientTransformation,
      config.optimizer.to_dict(),
      "config.optimizer",
      given={"steps": config.steps},
    ),
    steps=config.steps,
  )


def trained(arm, seed, look=lambda parts, state: None):
  """(parts, last state, last loss), after `look` at the states on the way."""
  parts = parts_of(arm, seed)
  state = training.init(parts.method, parts.optimizer, parts.source.batch(0), seed=seed)
  step = training.make_train_step(parts.method, parts.optimizer)
  for t in range(parts.steps):
    if t % (parts.steps // LOOKS) == 0:
      look(parts, state)
    state, metrics = step(state, parts.source.batch(t))
  look(parts, state)
  return parts, state, metrics["loss"]


@functools.cache
def guide():
  """(features of all training images, the limit of their cosine)."""
  parts, state, _ = trained("none", GUIDE_SEED)
  features = embed(parts, state, parts.dataset.train["image"])
  features = (features - features.mean(0)) / features.std(0)
  features /= np.linalg.norm(features, axis=1, keepdims=True)
  drawn = features[np.random.default_rng(0).choice(len(features), 2_000, replace=False)]
  cosine = (drawn @ drawn.T)[~np.eye(len(drawn), dtype=bool)]
  return features.astype(np.float32), float(np.quantile(cosine, 0.95))


def measure(job) -> dict:
  curve = []

  def look(parts, state):
    curve.append(
      {"step": int(state.step), **in_training(parts, state), "dropped": dropped(parts, state)}
    )

  parts, state, loss = trained(job["arm"], job["seed"], look)
  train, test = parts.dataset.train, parts.dataset.test
  ours, theirs = (embed(parts, state, x["image"]) for x in (train, test))
  return {
    "knn": float(evaluation.knn(ours, train["label"], theirs, test["label"])),
    "rank": float(evaluation.effective_rank(jnp.asarray(theirs[:2000]))),
    "finite": bool(np.isfinite(loss)),
    "curve": curve,
  }


def dropped(parts, state) -> dict:
  """Of the batch's negatives that the method's relation leaves out: their share of all, their
  precision and their recall."""
  method = parts.method
  anchors, groups = candidates(
    method, state.params, state.state, parts.source.batch(0), key_for(0, "curve")
  )
  (every, false), (kept, kept_false) = (
    (int((~np.isnan(of)).sum()), int((of == 1).sum()))
    for of in (
      evaluation.ranked_negatives(anchors, groups, relation=relation, score=method.score).false
      for relation in (same_example(), method.relation)
    )
  )
  gone = every - kept
  return {
    "share": gone / every,
    "precision": (false - kept_false) / gone if gone else None,
    "recall": (false - kept_false) / false,
  }


def draw() -> None:
  stand = read(RESULTS)
  of = {arm: [r for r in stand if r.get("arm") == arm] for arm in ARMS}
  if any(len(runs) < len(SEEDS) for runs in of.values()):
    sys.exit("runs are missing; python benchmarks/false_negatives.py run")

  def of_dropped(arm, key, at=-1):
    return np.array([r["curve"][at]["dropped"][key] for r in of[arm]], float)

  knn = {arm: np.array([r["knn"] for r in of[arm]]) for arm in ARMS}
  unsound = [r for runs in of.values() for r in runs if not r["finite"] or r["rank"] < 3]
  lines = [
    "# False negatives and masks on CIFAR-10", "",
    f"SimCLR, ConvNet 32-64-128, 150,000 pairs, {len(SEEDS)} seeds, mean ± standard error; {stand[0]['machine']}. "
    "Of the last state; a tenth of all negatives is false.", "",
    "| mask | kNN | dropped | precision | recall |", "|---|---|---|---|---|",
  ]  # fmt: skip
  for arm in ARMS:
    cells = [mean_error(of_dropped(arm, key)) for key in ("share", "precision", "recall")]
    lines.append(
      f"| {arm} | {mean_error(knn[arm])} | {' | '.join(cells if arm != 'none' else '   ')} |"
    )
  lines += ["", "Precision and recall over training, means:", ""]
  lines += ["| step | " + " | ".join(MASKS) + " |", "|---" * (len(MASKS) + 1) + "|"]
  for at, point in enumerate(of["none"][0]["curve"]):
    cells = [
      f"{np.nanmean(of_dropped(arm, 'precision', at)):.2f}, {of_dropped(arm, 'recall', at).mean():.2f}"
      if of_dropped(arm, "share", at).any() else "nothing dropped"
      for arm in MASKS
    ]  # fmt: skip
    lines.append(f"| {point['step']} | {' | '.join(cells)} |")

  precision = {arm: of_dropped(arm, "precision") for arm in MASKS}
  above = {arm: lead(x, np.full(len(SEEDS), 0.1)) for arm, x in precision.items()}
  others = {arm: lead(precision["guide"], precision[arm]) for arm in MASKS[:2]}
  gains = {arm: lead(knn[arm], knn["none"]) for arm in ARMS[1:]}
  counts = gains["oracle"][0] > 2 * gains["oracle"][1]

  def told(it):
    return f"the hypothesis {'holds' if it else 'does not hold'}"

  def said(leads):
    return ", ".join(f"{arm} {gain:+.3f} ± {error:.3f}" for arm, (gain, error) in leads.items())

  gained = any(gains[arm][0] > 2 * gains[arm][1] for arm in MASKS)
  lines += [
    "", f"Runs that do not count: {len(unsound) or 'none'}.", "",
    f"- better than chance: precision above 0.1, {said(above)}; {told(all(g > 3 * e for g, e in above.values()))}.",
    f"- guide: its precision above that of {said(others)}; {told(all(g > 2 * e for g, e in others.values()))}.",
    f"- gain: kNN above none, {said(gains)}; {told(gained) if counts else 'not tested'}.", "",
  ]  # fmt: skip
  RESULTS.with_suffix(".md").write_text("\n".join(lines))
  print("\n".join(lines))


if __name__ == "__main__":
  if sys.argv[1:] not in (["run"], ["draw"]):
    sys.exit("say what to do: run or draw")
  jobs = [{"part": "run", "arm": arm, "seed": seed} for seed in SEEDS for arm in ARMS]
  draw() if sys.argv[1] == "draw" else fill(RESULTS, jobs, measure)
