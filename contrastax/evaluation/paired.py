"""The comparison of two classifiers on the same test examples."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtri

from contrastax.core import UserError


def accuracy_difference(
  correct: ArrayLike, other: ArrayLike, *, confidence: float = 0.95
) -> tuple[float, float, float]:
  """Returns the difference of two accuracies on the same test examples, and its interval.

      d = (b − c) / m
      d' = (b − c) / (m + 2),  d' ± z √((b' + c' − d'²) / (m + 2))
      b' = (b + 1) / (m + 2),  c' = (c + 1) / (m + 2)

  b is the number of examples that only the first classifier predicts correctly, c is that of the
  second one, and z is the quantile of the normal distribution. Examples on which both agree carry no
  information about the difference. The added 1 and 2 keep the interval valid for few examples, and
  wider than 0 if the classifiers agree everywhere.

  Args:
    correct: bool [m], whether the first classifier predicts each example correctly.
    other: bool [m], the same for the second classifier.
    confidence: level of the interval, above 0 and below 1.

  Returns:
    d, and the lower and upper end of the interval, which is widened to contain d.

  Raises:
    UserError: the arrays are not booleans [m] of one length of 1 or more, or the level is out of
      range.

  Example:
    >>> import numpy as np
    >>> from contrastax import evaluation
    >>> correct, other = np.arange(100) < 90, np.arange(100) < 80
    >>> "{:.2f} [{:.2f}, {:.2f}]".format(*evaluation.accuracy_difference(correct, other))
    '0.10 [0.03, 0.16]'

  References:
    Bonett and Price, "Adjusted Wald confidence interval for a difference of binomial proportions
    based on paired data", Journal of Educational and Behavioral Statistics 37(4), 2012.
  """
  a, b = np.asarray(correct), np.asarray(other)
  if a.dtype != bool or b.dtype != bool or a.ndim != 1 or a.shape != b.shape or not len(a):
    raise UserError(
      f"correct and other must be booleans [m] of one length, not {list(a.shape)} of {a.dtype} and "
      f"{list(b.shape)} of {b.dtype}"
    )
  if not 0 < confidence < 1:
    raise UserError(f"confidence must be a number above 0 and below 1, not {confidence!r}")
  count, first, second = len(a), int((a & ~b).sum()), int((b & ~a).sum())
  p, q = (first + 1) / (count + 2), (second + 1) / (count + 2)
  half = float(ndtri((1 + confidence) / 2)) * np.sqrt((p + q - (p - q) ** 2) / (count + 2))
  difference = (first - second) / count
  low, high = max(p - q - half, -1.0), min(p - q + half, 1.0)
  return difference, float(min(low, difference)), float(max(high, difference))
