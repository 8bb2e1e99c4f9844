"""Checks of a run's metrics: warnings, and errors that stop the run.

A warning contains the measured value, its meaning and a suggested change. Each warning is given
once. A check is skipped if the method does not have its metric. `contrastax.terms.Contrast`
documents the metrics.
"""

from __future__ import annotations

from collections.abc import Mapping

from contrastax.core import TrainingDiverged, UserError

GRACE = 0.2  # The first part of a run, as a share of its steps, in which nothing is checked.
# The margin is not checked before this step, however short the run is. An untrained encoder has a
# margin of nearly 0, because it scores all pairs alike. Warmup and the first updates come before the
# positives separate, so a small margin is no evidence within the first few hundred steps.
FIRST_MARGIN_STEP = 200
LEAST_MARGIN = 0.1
LEAST_STD, LEAST_RANK = 0.01, 1.5
# A step without negatives is not an error: a queue may be empty, or a batch may have one label.
STEPS_WITHOUT_NEGATIVES = 10


class Health:
  """Checks the metrics of a run.

  Args:
    steps: the total number of steps. There are no warnings in the first fifth of them, and none
      about the margin before step 200.
  """

  def __init__(self, steps: int):
    self._first_step = GRACE * steps
    self._given: set[str] = set()
    self._without_negatives = 0

  def check(self, step: int, metrics: Mapping[str, float]) -> None:
    """Checks the metrics of a step. It must be called for every step.

    Args:
      step: the number of the step.
      metrics: its metrics by name.

    Raises:
      UserError: no anchor has had a negative for ten steps. This is an error of the config, such as
        a relation or a filter that excludes every candidate.
    """
    none = metrics.get("negatives") == 0
    self._without_negatives = self._without_negatives + 1 if none else 0
    if self._without_negatives == STEPS_WITHOUT_NEGATIVES:
      raise UserError(
        f"step {step}: no anchor has had a negative for {STEPS_WITHOUT_NEGATIVES} steps, so the run "
        "learns nothing; change the relation or its filters, check the labels, or add a source of "
        "negatives, in a new workdir"
      )

  def warnings(self, step: int, metrics: Mapping[str, float]) -> list[str]:
    """Returns the warnings for a step that were not given before.

    Args:
      step: the number of the step.
      metrics: its metrics by name.

    Returns:
      One line per warning.
    """
    if step < self._first_step:
      return []
    checks = CHECKS if step < FIRST_MARGIN_STEP else (_check_margin, *CHECKS)
    texts = {check.__name__: check(metrics) for check in checks}
    new = {name: text for name, text in texts.items() if text and name not in self._given}
    self._given.update(new)
    return [f"step {step}: {text}" for text in new.values()]


def check_collapse(step: int, steps: int, metrics: Mapping[str, float]) -> None:
  """Stops a run whose embeddings have collapsed. Configs enable it with `stop_on_collapse`.

  Embeddings have collapsed to a point if `embedding_std` is below 0.01; it is 1 for vectors that
  are uniform on the sphere. They have collapsed to a line if `effective_rank` is below 1.5. The
  rank is uncentered, so a point has rank 1 as well. An untrained convolutional encoder of 128
  dimensions has a rank of about 45.

  Args:
    step: the number of the step. The first fifth of the run is not checked.
    steps: the total number of steps.
    metrics: metrics of a step or of an evaluation (`eval/…`) by name. A missing metric is not
      checked.

  Raises:
    TrainingDiverged: the embeddings have collapsed.
  """
  if step < GRACE * steps:
    return
  values = {name.removeprefix("eval/"): value for name, value in metrics.items()}
  std, rank = values.get("embedding_std"), values.get("effective_rank")
  reasons = []
  if std is not None and std < LEAST_STD:
    reasons.append(f"their spread is {std:.2g} of a uniform sphere's, below {LEAST_STD}")
  if rank is not None and rank < LEAST_RANK:
    reasons.append(f"their effective rank is {rank:.2f}, below {LEAST_RANK}")
  if reasons:
    raise TrainingDiverged(
      f"step {step}: the embeddings have collapsed ({' and '.join(reasons)}), so the run stops; "
      "earlier checkpoints are kept. Lower learning_rate, add BatchNorm to the projection, or use "
      "more negatives, in a new workdir"
    )


def _check_margin(metrics: Mapping[str, float]) -> str | None:
  margin = metrics.get("margin")
  if margin is not None and margin < LEAST_MARGIN:
    better = "no better" if margin <= 0 else "hardly better"
    return (
      f"positives score {better} than negatives (margin {margin:.3f}, below {LEAST_MARGIN}), so the "
      "run has learned little so far; try a higher learning rate or weaker views"
    )
  return None


def _check_spread(metrics: Mapping[str, float]) -> str | None:
  std = metrics.get("embedding_std")
  if std is not None and std < 0.1:
    return (
      f"the embeddings collapse: their spread is {std:.3f} of a uniform sphere's; "
      "check that the views of two examples differ, then try a lower learning rate, BatchNorm in the "
      "projection, or more negatives"
    )
  return None


def _check_temperature(metrics: Mapping[str, float]) -> str | None:
  names = ("temperature", "effective_negatives", "negatives")
  temperature, effective, negatives = (metrics.get(name) for name in names)
  if temperature is None or effective is None or negatives is None:
    return None
  if negatives >= 16 and effective < 2:
    return (
      f"the temperature {temperature:.3g} is too small for this batch: each anchor's softmax "
      f"weights only {effective:.1f} of its {negatives:.0f} negatives; try a higher temperature"
    )
  return None


def _check_bounds(metrics: Mapping[str, float]) -> str | None:
  share = metrics.get("at_bound")
  if share is not None and share > 0.5:
    return (
      f"{share:.0%} of the temperatures are at a bound, so the bound determines them and not the "
      "data; change rho of individual temperatures (a smaller rho raises them) or the bounds"
    )
  return None


CHECKS = (_check_spread, _check_temperature, _check_bounds)
