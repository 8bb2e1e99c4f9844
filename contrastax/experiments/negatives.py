"""The report on the negatives of a finished run, from the batches that training would use next."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from contrastax import evaluation, reporting
from contrastax.compilation import quick_jit
from contrastax.core import Array, Batch, Group, Params, Source, State, TrainState, key_for
from contrastax.experiments.build import Parts, contrast_of, inputs_of
from contrastax.experiments.figures import figure, is_images
from contrastax.methods.base import MAIN, BaseMethod
from contrastax.terms import Contrast

MAX_ANCHORS = 1024
MAX_PAIRS = 2**24
"""The largest number of pairs of a batch. Batches with more candidates give fewer anchors."""
ANCHORS_IN_FIGURE = 8


def report(parts: Parts, state: TrainState, figures: pathlib.Path) -> dict[str, Any] | None:
  """Draws the figures of the negatives.

  Args:
    parts: the experiment.
    state: the state after the last step.
    figures: the folder of the figures.

  Returns:
    The entry `negatives` of summary.json, or None if the method's own term is not a `Contrast`.
  """
  method, contrast = parts.method, contrast_of(parts.method)
  if contrast is None or not isinstance(method, BaseMethod):
    return None
  ranked, metrics = collect_negatives(method, contrast, parts.source_at(state), state)
  with figure(figures / "negatives.png") as path:
    reporting.hardness(ranked, path)
  images, label = inputs_of(method, parts.dataset.train), parts.dataset.train.get("label")
  if is_images(images):
    with figure(figures / "nearest_negatives.png") as path:
      sort_key = ranked.anchor if label is None else label[ranked.anchor]
      evenly = np.linspace(0, len(sort_key) - 1, ANCHORS_IN_FIGURE).round().astype(int)
      # Anchors at even distances in the order of the labels are from many classes.
      rows = np.argsort(sort_key, kind="stable")[evenly]
      reporting.nearest_negatives(images, ranked, rows, path)
  return {"anchors": len(ranked.anchor), **metrics, **ranked.means()}


def collect_negatives(
  method: BaseMethod, contrast: Contrast, source: Source, state: TrainState
) -> tuple[evaluation.RankedNegatives, dict[str, float]]:
  """Ranks the negatives in batches after the last step, without training.

  Batches are drawn until there are `MAX_ANCHORS` anchors, or as many as `MAX_PAIRS` allows.

  Args:
    method: the method.
    contrast: its own term.
    source: the batches.
    state: the state after the last step.

  Returns:
    (the negatives, the means of the method's own metrics of its negatives).
  """
  batches, metrics, collected, wanted = [], [], 0, 1
  while collected < wanted:
    step = state.step + len(batches)
    batch, key = source.batch(int(step)), key_for(state.seed, "negatives", step)
    anchors, groups, batch_metrics = _candidates(
      method, contrast, state.params, state.state, batch, key
    )
    n, m = len(anchors.vectors), sum(group.vectors.shape[-2] for group in groups)
    wanted = max(1, min(MAX_ANCHORS, MAX_PAIRS // m))
    every = -(-n // wanted)
    ranked = evaluation.ranked_negatives(
      _every(anchors, every),
      [_every(group, every) if group.per_anchor else group for group in groups],
      relation=contrast.relation,
      score=contrast.score,
      score_params=state.params["terms"][MAIN]["score"],
    )
    batches.append(ranked)
    metrics.append(batch_metrics)
    collected += len(ranked.anchor)
  fields = [np.concatenate(arrays) for arrays in zip(*batches, strict=True)]
  means = {name: float(np.mean([each[name] for each in metrics])) for name in metrics[0]}
  return evaluation.RankedNegatives(*fields), means


def _every(group: Group, every: int) -> Group:
  """Returns every so-many-th vector of a group."""
  return jax.tree.map(lambda x: x[::every], group)


@quick_jit(static_argnums=(0, 1))
def _candidates(
  method: BaseMethod, contrast: Contrast, params: Params, state: State, batch: Batch, key: Array
) -> tuple[Group, tuple[Group, ...], Mapping[str, Array]]:
  """Returns the anchors, the groups of candidates, and the metrics of the negatives."""
  seen = method.seen(params, state, batch, key)
  own = params["terms"][MAIN], state["terms"][MAIN]
  anchors, _, groups, _ = contrast.candidates(*own, seen, key)
  _, (_, metrics) = method.objective(params, state, batch, key)
  return anchors, groups, {name: metrics[name] for name in ("negatives", "effective_negatives")}
