"""The contrastive term: anchors, candidates, a temperature and a criterion."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import FunctionType
from typing import Any, Literal

import jax.numpy as jnp
from typing_extensions import override

from contrastax import criteria
from contrastax.core import (
  Array,
  Compare,
  Criterion,
  Group,
  Metrics,
  Negatives,
  Params,
  Schedule,
  Score,
  State,
  Temperature,
  Term,
  UserError,
  check_kind,
  join,
  named,
)  # fmt: skip
from contrastax.criteria import info_nce
from contrastax.criteria.softmax_core import STATS, penalty
from contrastax.evaluation import embedding_std
from contrastax.negatives import in_batch
from contrastax.pairwise import Plan, cosine
from contrastax.pairwise.checks import check_relation
from contrastax.paths import pick
from contrastax.relations import Relation, same_example
from contrastax.temperatures import fixed
from contrastax.terms.groups import Given, of_examples, of_given


@dataclasses.dataclass(frozen=True, kw_only=True)
class Contrast(Term):
  """The mean of a criterion over the anchors. Contrastive methods minimize it.

  Vectors are [n, d], one per example, or [n, T, d], T per example, such as tokens or patches. Each of
  the n·T vectors is then an anchor or a key, and its side `place` is its number among the T.

  Args:
    anchors: the path, or paths, of the anchors, such as "projection" (all views) or "projection.0"
      (view 0).
    keys: the path, or paths, of the keys, which contain the positives; None: the anchors themselves.
    given: further negatives that come with the data.
    sides: names of arrays that a relation reads, from the side of the view or from the batch. The
      fields of the batch with one number per example are available without being listed.
    attached: paths of arrays [n] that are added to the side of the anchors only.
    mask: the path of an array [n, T] with 0 for vectors that do not exist.
    rows: the number of table rows per example, for temperatures and criteria with a table: T with T
      vectors per example, 2 with two towers. With 1 all anchors of an example share a row.
    average: "all": the mean over all anchors, in which an anchor without a positive has value 0.
      "with positives": the mean over the anchors with a positive. If the anchors have a side
      `weight`, such as 0 for a masked vector, both means are weighted by it.
    temperature: one of `contrastax.temperatures`. A number x means `fixed(x)`.
    loss: one of `contrastax.criteria`.
    negatives: one of `contrastax.negatives`, combined by `+`.
    relation: one of `contrastax.relations`, combined by `&`.
    score: the similarity, one of `contrastax.pairwise`.
    plan: how all pairs are evaluated; `Plan(mesh=mesh)` on several devices.
    weight: the weight of the term, a number or a schedule.
    tag: the name of the term in parameters, state and metrics.

  Raises:
    UserError: a part has the wrong type, or two parts do not fit together.

  Example:
    >>> from contrastax import criteria
    >>> from contrastax.terms import Contrast
    >>> term = Contrast(anchors="predictor", keys="target.projection", temperature=0.2)
    >>> term.temperature
    fixed(temperature=0.2)
  """

  anchors: str | tuple[str, ...] = "projection"
  keys: str | tuple[str, ...] | None = None
  given: tuple[Given, ...] = ()
  sides: tuple[str, ...] = ()
  attached: tuple[str, ...] = ()
  mask: str | None = None
  rows: int = 1
  average: Literal["all", "with positives"] = "all"
  temperature: Temperature | float = fixed(0.5)
  loss: Criterion = info_nce()
  negatives: Negatives = in_batch()
  relation: Relation = same_example()
  score: Score = cosine()
  plan: Plan = Plan()
  weight: float | Schedule = 1.0
  tag: str = ""

  def __post_init__(self):
    object.__setattr__(self, "temperature", as_temperature(self.temperature))
    check_parts(self)
    if not self.anchors or self.keys == ():
      raise UserError('Contrast: anchors and keys need a path, such as "projection"')
    if self.average not in ("all", "with positives"):
      raise UserError(f"average must be 'all' or 'with positives', not {self.average!r}")

  @override
  def init(self, key: Array, seen: Mapping[str, Any], examples: int) -> tuple[Params, State]:
    params, state = {}, {}
    rows = self.rows * examples
    params["temperature"], state["temperature"] = as_temperature(self.temperature).init(rows)
    state["loss"] = self.loss.init(rows)
    _, keys, _ = self.groups(seen)
    params["score"] = self.score.init(named(key, "score"), keys.vectors.shape[-1])
    state["negatives"] = self.negatives.init(named(key, "negatives"), keys, examples)
    return params, state

  def groups(self, seen: Mapping[str, Any]) -> tuple[Group, Group, tuple[Group, ...]]:
    """Returns (anchors, keys, groups of given negatives)."""
    anchors = self._group(seen, self.anchors)
    keys = anchors if self.keys is None else self._group(seen, self.keys)
    for path in self.attached:
      (value,) = pick(seen, path).values()
      anchors = anchors.attach(**{path.rpartition(".")[2]: value})
    if self.rows > 1:
      index, slot = anchors.side["index"], anchors.side.get("place", anchors.side["view"])
      size = seen["examples"]
      row = jnp.where(index < size, index + size * slot, -1)
      anchors = anchors.attach(row=row)
    return anchors, keys, tuple(of_given(seen, each, keys) for each in self.given)

  def candidates(
    self, params: Params, state: State, seen: Mapping[str, Any], key: Array
  ) -> tuple[Group, Group, tuple[Group, ...], Compare]:
    """Returns (anchors, keys, groups of candidates, how they are compared)."""
    anchors, keys, given = self.groups(seen)
    compare = Compare(self.relation, self.score, params["score"], self.keys is None, self.plan)
    anchors, groups = self.negatives.candidates(
      state["negatives"], anchors, (keys, *given), named(key, "negatives"), compare
    )
    return anchors, keys, groups, compare

  @override
  def __call__(
    self, params: Params, state: State, seen: Mapping[str, Any], key: Array
  ) -> tuple[Array, State, Metrics]:
    """Returns (value, state, metrics).

    The mean of each metric over the anchors is logged:

        loss                 the criterion
        temperature          the temperature
        at_bound             whether the temperature is at one of its bounds, if it has bounds
        similarity           the similarity of the positives
        margin               the logit of the positives minus the log-mean-exp of the negatives'
                             logits; at 0 the positives score like the negatives, and InfoNCE is
                             log(1 + negatives)
        negatives            the number of negatives
        effective_negatives  the perplexity of the softmax over the negatives
        embedding_std        √d times the mean standard deviation of the dimensions of the normalized
                             anchors; 1 on a uniform sphere, 0 after a collapse
        penalty              the penalty of the score, if it has one; it is minimized with the loss
    """
    temperature = as_temperature(self.temperature)
    anchors, keys, groups, compare = self.candidates(params, state, seen, key)
    tau = temperature.value(params["temperature"], state["temperature"], anchors.side)
    bias = {"bias": params["temperature"]["bias"]} if temperature.learns_bias else {}
    value, weight, stats, memory = self.loss(
      anchors, groups, compare, temperature=tau, memory=state["loss"], stats=STATS, **bias
    )
    taus = jnp.broadcast_to(tau, value.shape)
    state = {
      "loss": memory,
      "negatives": self.negatives.advance(state["negatives"], keys),
      "temperature": temperature.advance(state["temperature"], anchors.side, taus, stats),
    }
    spread = stats["log_mean"] - stats["mean_logit"]  # −KL(softmax of the negatives ‖ uniform)
    metrics = {
      "loss": value,
      "temperature": taus,
      "similarity": stats["positive"] * taus,
      "margin": stats["positive"] - stats["log_mean"],
      "negatives": stats["count"],
      "effective_negatives": stats["count"] * jnp.exp(spread),
      "embedding_std": embedding_std(anchors.vectors),
    }
    if temperature.bounds is not None:
      low, high = temperature.bounds
      rounding = 1e-6  # a learned temperature is the exponential of a logarithm
      at_bound = (taus <= low * (1 + rounding)) | (taus >= high * (1 - rounding))
      metrics["at_bound"] = at_bound.astype(taus.dtype)
    minimized = temperature.weigh(value, taus)
    if self.score.penalized is not None:
      metrics["penalty"] = penalty(anchors, groups, compare)
      minimized += self.score.regularizer * metrics["penalty"]
    if self.average == "all":
      weight = jnp.ones_like(weight)
    if "weight" in anchors.side:
      weight = weight * anchors.side["weight"]
    elif self.average == "all":
      return minimized.mean(), state, metrics
    total = weight.sum()
    mean = jnp.where(weight > 0, weight * minimized, 0).sum() / jnp.where(total > 0, total, 1)
    return mean, state, metrics

  def _group(self, seen: Mapping[str, Any], paths: str | tuple[str, ...]) -> Group:
    masks = pick(seen, self.mask) if self.mask else {}
    groups = [
      of_examples(seen, z, view or 0, self.sides, self._mask(masks, view))
      for path in ((paths,) if isinstance(paths, str) else paths)
      for view, z in pick(seen, path).items()
    ]
    return join(*groups)

  def _mask(self, masks: Mapping[int | None, Array], view: int | None) -> Array | None:
    """Returns the mask of a view. A mask without a view, such as a field of the batch, is shared."""
    if masks and view not in masks and None not in masks:
      raise UserError(f"mask: the path {self.mask!r} has no mask of view {view}")
    return masks.get(view, masks.get(None))


def as_temperature(temperature: Temperature | float) -> Temperature:
  """Returns the temperature; a number x means `fixed(x)`.

  Raises:
    UserError: it is neither a temperature nor a number above 0.
  """
  if isinstance(temperature, int | float) and not isinstance(temperature, bool):
    return fixed(temperature)
  return check_kind("temperature", temperature, Temperature, "temperatures.fixed(0.1)")


def check_parts(contrast: Contrast) -> None:
  """Checks that the parts have the right types and fit together.

  Raises:
    UserError: a part has the wrong type, or two parts do not fit together.
  """
  loss, score = contrast.loss, contrast.score
  temperature = as_temperature(contrast.temperature)
  if isinstance(loss, FunctionType | type):
    name = loss.__name__
    known = name in vars(criteria)
    fix = f"criteria.{name}(…)" if known else "criteria.info_nce()"
    term = f'; Apply(loss={name}, of=("projection",)) in terms=(…,) adds a loss on arrays'
    own = "" if known or isinstance(loss, type) else term
    raise UserError(f"loss must be a criterion, such as {fix}, not the {_form(loss)} {name}{own}")
  check_kind("loss", loss, Criterion, "criteria.info_nce()")
  check_kind("score", score, Score, "pairwise.cosine()")
  check_kind("negatives", contrast.negatives, Negatives, "negatives.in_batch()")
  check_kind("plan", contrast.plan, Plan, "pairwise.Plan()")
  check_relation(contrast.relation)
  if temperature.learns_bias and not loss.learns_bias:
    raise UserError(
      "a bias has no effect on a softmax, so only the loss siglip learns one; leave bias out of "
      "learned, or use siglip"
    )
  if score.has_temperature and temperature != fixed(1.0):
    raise UserError(
      f"{type(score).__name__} has temperatures of its own, so the method's must be fixed(1.0), "
      f"not {temperature}"
    )


def _form(loss: FunctionType | type) -> str:
  return "class" if isinstance(loss, type) else "function"
