"""Plain-language warnings about a contrastive run that is going wrong.

Each reads the metrics of a step (`contrastax.methods.contrast` names them), says what is
seen, what it means and what to try, and is given once. A method without one of these
metrics is not judged by it.
"""

from __future__ import annotations


class Health:
  """Judges a run of `steps` steps, once its first fifth is over."""

  def __init__(self, steps: int):
    self._from = steps / 5
    self._said: set = set()

  def warnings(self, step: int, metrics: dict[str, float]) -> list[str]:
    found = [(judge, judge(metrics)) for judge in JUDGES] if step >= self._from else []
    new = [(judge, text) for judge, text in found if text and judge not in self._said]
    self._said.update(judge for judge, _ in new)
    return [f"step {step}: {text}" for _, text in new]


def no_learning(metrics):
  margin = metrics.get("margin")
  if margin is not None and margin < 0.1:
    return (
      f"positives score no better than negatives (margin {margin:.3f}), so the loss is near "
      "log(1 + negatives) and nothing is learned; try a higher learning rate or weaker views"
    )


def collapse(metrics):
  std = metrics.get("embedding_std")
  if std is not None and std < 0.1:
    return (
      f"the embeddings collapse: their spread is {std:.3f} of the sphere's; "
      "try a lower learning rate, BatchNorm in the projection, or more negatives"
    )


def narrow_softmax(metrics):
  names = ("temperature", "effective_negatives", "negatives")
  tau, seen, there = (metrics.get(name) for name in names)
  if None not in (tau, seen, there) and there >= 16 and seen < 2:
    return (
      f"the temperature {tau:.3g} is too small for this batch: each anchor's "
      f"softmax sees {seen:.1f} of its {there:.0f} negatives; try a higher one"
    )


JUDGES = (no_learning, collapse, narrow_softmax)
