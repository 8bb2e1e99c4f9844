"""A loss on arrays as a term."""

from __future__ import annotations

import dataclasses
import functools
import operator
from collections.abc import Mapping
from typing import Any, Literal

import jax.numpy as jnp
from typing_extensions import override

from contrastax.core import (
  Array,
  ArrayLoss,
  Criterion,
  Metrics,
  Params,
  Schedule,
  State,
  Term,
  UserError,
)
from contrastax.nouns import accepts
from contrastax.paths import pick


@dataclasses.dataclass(frozen=True, kw_only=True)
class Apply(Term):
  """The mean of a loss on arrays, such as `losses.barlow_twins`.

      how="together"    loss(x_1, x_2, …), one argument per view and path
      how="each"        the mean of loss(x_1), loss(x_2), …
      how="stacked"     loss of one array [v, n, d], the v views stacked
      how="joined"      loss of one array [v·n, d], the views concatenated

  Args:
    loss: a loss of `contrastax.losses`, or a function of arrays. `functools.partial` binds its other
      arguments.
    of: the paths of the arrays, in order. A path without a view number means all views.
    how: how the arrays become arguments. A loss of one array, such as `losses.uniformity`, needs
      "each" or "joined"; a loss of two views needs "together".
    labels: the path of a further argument with one entry per example, such as "batch.label". With
      "joined" it is repeated for each view.
    weight: the weight of the term, a number or a schedule.
    tag: the name of the term in metrics.

  Raises:
    UserError: an argument is invalid. Calls raise it if `loss` does not take the number of arrays.

  Example:
    >>> from contrastax import losses
    >>> from contrastax.terms import Apply
    >>> decorrelation = Apply(loss=losses.barlow_twins, of=("projection",), weight=0.1)
    >>> supervision = Apply(
    ...   loss=losses.sup_con, of=("projection",), how="joined", labels="batch.label"
    ... )
  """

  loss: ArrayLoss
  of: tuple[str, ...]
  how: Literal["together", "each", "stacked", "joined"] = "together"
  labels: str | None = None
  weight: float | Schedule = 1.0
  tag: str = ""

  def __post_init__(self):
    if isinstance(self.loss, Criterion) or not callable(self.loss):
      raise UserError(
        f"Apply: loss must be a loss on arrays, such as losses.barlow_twins, not {self.loss!r}; "
        "Contrast takes criteria"
      )
    if not self.of:
      raise UserError('Apply: of must contain a path, such as ("projection",)')
    if self.how not in ("together", "each", "stacked", "joined"):
      raise UserError(
        f"Apply: how must be 'together', 'each', 'stacked' or 'joined', not {self.how!r}"
      )

  @override
  def init(self, key: Array, seen: Mapping[str, Any], examples: int) -> tuple[Params, State]:
    return (), ()

  @override
  def __call__(
    self, params: Params, state: State, seen: Mapping[str, Any], key: Array
  ) -> tuple[Array, State, Metrics]:
    paths = (self.of,) if isinstance(self.of, str) else self.of
    arrays = [x for path in paths for x in pick(seen, path).values()]
    more = list(pick(seen, self.labels).values()) if self.labels else []
    if self.how == "each":
      values = [self._mean(x, *more) for x in arrays]
      return functools.reduce(operator.add, values) / len(values), state, {}
    if self.how == "stacked":
      arrays = [jnp.stack(arrays)]
    if self.how == "joined":
      more = [jnp.concatenate([x] * len(arrays)) for x in more]
      arrays = [jnp.concatenate(arrays)]
    return self._mean(*arrays, *more), state, {}

  def _mean(self, *arrays: Array) -> Array:
    try:
      return jnp.mean(self.loss(*arrays))
    except TypeError as error:
      if accepts(self.loss, *arrays):
        raise
      count = f"{len(arrays)} array{'s' * (len(arrays) > 1)}"
      fault = " ".join(str(error).split())
      fix = (
        "how='each' calls it once for each array"
        if self.how == "together"
        else "how='together' calls it with all arrays, such as the two views"
      )
      raise UserError(
        f"Apply {self.tag!r} calls its loss with {count} (how={self.how!r}), which it does not accept "
        f"({fault}); {fix}"
      ) from None
