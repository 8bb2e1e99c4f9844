"""What a run says of its negatives at its end, by the batches that training would see next."""

from __future__ import annotations

import pathlib

import jax
import numpy as np

from contrastax import evaluation, reporting
from contrastax.compilation import quick_jit
from contrastax.core import key_for
from contrastax.experiments.build import inputs_of
from contrastax.experiments.figures import figure, is_images
from contrastax.methods.base import MAIN, all_terms

ANCHORS = 1024  # batches are drawn until there are so many
PAIRS = 2**24  # fewer anchors, where that many would be more pairs than this
PICTURED = 8


def report(parts, state, figures: pathlib.Path) -> dict:
  """Draws the figures, of a method that has a contrast; returns the summary's entry."""
  ranked, metrics = collect_negatives(parts.method, parts.source_at(state), state)
  with figure(figures / "negatives.png") as path:
    reporting.hardness(ranked, path)
  images, label = inputs_of(parts.method, parts.dataset.train), parts.dataset.train.get("label")
  if is_images(images):
    with figure(figures / "nearest_negatives.png") as path:
      by = ranked.anchor if label is None else label[ranked.anchor]
      spread = np.linspace(0, len(by) - 1, PICTURED).round().astype(int)
      rows = np.argsort(by, kind="stable")[spread]  # of all classes, where they are few
      reporting.nearest_negatives(images, ranked, rows, path)
  return {"anchors": len(ranked.anchor), **metrics, **ranked.means()}


def collect_negatives(method, source, state):
  """(`evaluation.RankedNegatives`, the method's own metrics of them), the state being as it is."""
  contrast = all_terms(method)[MAIN]
  found, metrics, drawn, wanted = [], [], 0, 1
  while drawn < wanted:
    step = state.step + len(found)
    batch, key = source.batch(int(step)), key_for(state.seed, "negatives", step)
    anchors, groups, measured = _meet(method, state.params, state.state, batch, key)
    n, m = len(anchors.vectors), sum(group.vectors.shape[-2] for group in groups)
    wanted = max(1, min(ANCHORS, PAIRS // m))
    every = -(-n // wanted)
    ranked = evaluation.ranked_negatives(
      _thinned(anchors, every),
      [_thinned(group, every) if group.per_anchor else group for group in groups],
      relation=contrast.relation,
      score=contrast.score,
      score_params=state.params["terms"][MAIN]["score"],
    )
    found.append(ranked)
    metrics.append(measured)
    drawn += len(ranked.anchor)
  together = [np.concatenate(x) for x in zip(*found, strict=True)]
  means = {name: float(np.mean([x[name] for x in metrics])) for name in metrics[0]}
  return evaluation.RankedNegatives(*together), means


def _thinned(group, every):
  return jax.tree.map(lambda x: x[::every], group)


@quick_jit(static_argnums=0)
def _meet(method, params, state, batch, key):
  """What the method's loss is given, and the metrics of the negatives."""
  seen, (own, kept) = (
    method.seen(params, state, batch, key),
    (x["terms"][MAIN] for x in (params, state)),
  )
  anchors, _, groups, _ = all_terms(method)[MAIN].candidates(own, kept, seen, key)
  _, (_, metrics) = method.objective(params, state, batch, key)
  return anchors, groups, {name: metrics[name] for name in ("negatives", "effective_negatives")}
