"""Plain-language warnings about a contrastive run that is going wrong.

Each reads the metrics of a step (`contrastax.terms.Contrast` names them), says what is
seen, what it means and what to try, and is given once. A method without one of these
metrics is not judged by it. Two stop the run: `Health.check`, and `check_collapse` if asked for.
"""

from __future__ import annotations

from contrastax.core import UserError

GRACE = 0.2  # the share of a run that is not judged
LEAST_STD, LEAST_RANK = 0.01, 1.5
WITHOUT_NEGATIVES = 10  # so many steps in a row; a queue's first, or a batch of one label, has none


class Health:
  """Judges a run of `steps` steps, once its first fifth is over."""

  def __init__(self, steps: int):
    self._from = GRACE * steps
    self._said: set = set()
    self._without = 0

  def check(self, step: int, metrics: dict[str, float]) -> None:
    """Raises UserError once no anchor has had a negative for ten steps; to be asked of every step."""
    self._without = self._without + 1 if metrics.get("negatives") == 0 else 0
    if self._without == WITHOUT_NEGATIVES:
      raise UserError(
        f"step {step}: no anchor has had a negative for {WITHOUT_NEGATIVES} steps, so nothing is "
        "learned from any: the relation, its filters or the labels leave none; loosen them, or add "
        "a source of negatives, in a new workdir"
      )

  def warnings(self, step: int, metrics: dict[str, float]) -> list[str]:
    found = [(judge, judge(metrics)) for judge in JUDGES] if step >= self._from else []
    new = [(judge, text) for judge, text in found if text and judge not in self._said]
    self._said.update(judge for judge, _ in new)
    return [f"step {step}: {text}" for _, text in new]


def check_collapse(step: int, steps: int, metrics: dict[str, float]) -> None:
  """The alarm that stops a run: raises UserError where its embeddings have collapsed.

  To one point: `embedding_std` below 0.01 of the sphere's (1: spread over it). To one
  line: `effective_rank` below 1.5 (uncentered, so a point has rank 1 as well; an untrained
  convolutional encoder of 128 dimensions has some 45). `metrics` are those of a step or of an
  evaluation (`eval/…`); what they do not have is not judged, nor is the first fifth of the
  run's `steps`.
  """
  if step < GRACE * steps:
    return
  of = {name.removeprefix("eval/"): value for name, value in metrics.items()}
  std, rank = of.get("embedding_std"), of.get("effective_rank")
  seen = []
  if std is not None and std < LEAST_STD:
    seen.append(f"their spread is {std:.2g} of the sphere's, below {LEAST_STD}")
  if rank is not None and rank < LEAST_RANK:
    seen.append(f"their effective rank is {rank:.2f}, below {LEAST_RANK}")
  if seen:
    raise UserError(
      f"step {step}: the embeddings have collapsed ({' and '.join(seen)}), so the run stops; the "
      "checkpoints before it stand. Lower learning_rate, add BatchNorm to the projection, or give "
      "more negatives, in a new workdir"
    )


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


def temperatures_at_bound(metrics):
  share = metrics.get("at_bound")
  if share is not None and share > 0.5:
    return (
      f"{share:.0%} of the temperatures are at a bound, so the bound decides and not the data; of "
      "individual ones change rho (a smaller one raises them) or the bounds"
    )


JUDGES = (no_learning, collapse, narrow_softmax, temperatures_at_bound)
