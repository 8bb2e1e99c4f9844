"""The contrast: anchors, their keys, further candidates, a temperature and a criterion."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import FunctionType
from typing import Any, Literal

import jax.numpy as jnp

from contrastax import criteria
from contrastax.core import (
  Array,
  Compare,
  Criterion,
  Group,
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
  """The mean over anchors of a criterion: what every contrastive method minimizes.

  Vectors are [n, d], one per example, or [n, T, d], T per example (tokens, patches), each of which
  is an anchor or a key of its own, with the side `place`.

  Args:
    anchors: the path, or paths, of the anchors' vectors, such as "projection" (all views) or
      "projection.0" (view 0).
    keys: the path, or paths, of the keys, which contain the positives; None: the anchors themselves.
    given: a tuple of `terms.Given`, further negatives that come with the data.
    sides: names of what a relation reads of each vector besides the batch's arrays [n]: an entry of
      the view's `side`, or of the batch.
    attached: paths of arrays [n] that only the anchors carry.
    mask: the path of [n, T], which of T vectors exist.
    rows: the number of table rows per example, for temperatures and criteria that keep something of
      each anchor: T with T vectors per example, 2 with two towers. At 1 all anchors of an example
      share a row.
    average: "all": the mean over all anchors, where one without a positive counts as 0. "with
      positives": the mean over the anchors with a positive. Where anchors have a side `weight`, such
      as 0 of a masked vector, both means are weighted by it.
    temperature, loss, negatives, relation, score: the parts; the loss is one of
      `contrastax.criteria`.
    plan: how all pairs are evaluated; on several devices `Plan(mesh=mesh)`.
    weight: the term's weight, a number or a schedule.
    tag: the term's name in parameters, state and metrics.
  """

  anchors: str | tuple[str, ...] = "projection"
  keys: str | tuple[str, ...] | None = None
  given: tuple[Given, ...] = ()
  sides: tuple[str, ...] = ()
  attached: tuple[str, ...] = ()
  mask: str | None = None
  rows: int = 1
  average: Literal["all", "with positives"] = "all"
  temperature: Temperature = fixed(0.5)
  loss: Criterion = info_nce()
  negatives: Negatives = in_batch()
  relation: Relation = same_example()
  score: Score = cosine()
  plan: Plan = Plan()
  weight: float | Schedule = 1.0
  tag: str = ""

  def __post_init__(self):
    check_parts(self)
    if not self.anchors or self.keys == ():
      raise UserError('Contrast: anchors and keys need a path, such as "projection"')
    if self.average not in ("all", "with positives"):
      raise UserError(f"average must be 'all' or 'with positives', not {self.average!r}")

  def init(self, key, seen, examples):
    params, state = {}, {}
    rows = self.rows * examples
    params["temperature"], state["temperature"] = self.temperature.init(rows)
    state["loss"] = self.loss.init(rows)
    _, keys, _ = self.groups(seen)
    params["score"] = self.score.init(named(key, "score"), keys.vectors.shape[-1])
    state["negatives"] = self.negatives.init(named(key, "negatives"), keys, examples)
    return params, state

  def groups(self, seen: Mapping[str, Any]) -> tuple[Group, Group, tuple[Group, ...]]:
    """(anchors, keys, given negatives)."""
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
    """What the criterion compares, and how: (anchors, keys, groups of candidates, Compare)."""
    anchors, keys, given = self.groups(seen)
    compare = Compare(self.relation, self.score, params["score"], self.keys is None, self.plan)
    anchors, groups = self.negatives.candidates(
      state["negatives"], anchors, (keys, *given), named(key, "negatives"), compare
    )
    return anchors, keys, groups, compare

  def __call__(self, params, state, seen, key):
    """(value, state, metrics).

    Metrics, of which the mean is logged: `loss`, the mean of the criterion; `temperature`, the mean, and of one with
    bounds `at_bound`, the share at one of them; `similarity` of positives; `margin`, by how much the
    positive's logit exceeds the log-mean-exp of the negatives' (0: no better than chance, and
    InfoNCE is then log(1 + negatives)); `negatives`, their number per anchor, and
    `effective_negatives`, the perplexity of their softmax; `embedding_std`, the standard deviation
    of a dimension of the unit anchors times √d (1: spread over the sphere, 0: collapsed); `penalty`,
    where the score has one, minimized beside the loss.
    """
    anchors, keys, groups, compare = self.candidates(params, state, seen, key)
    tau = self.temperature.value(params["temperature"], state["temperature"], anchors.side)
    bias = {"bias": params["temperature"]["bias"]} if self.temperature.learns_bias else {}
    value, weight, stats, memory = self.loss(
      anchors, groups, compare, temperature=tau, memory=state["loss"], stats=STATS, **bias
    )
    taus = jnp.broadcast_to(tau, value.shape)
    state = {
      "loss": memory,
      "negatives": self.negatives.advance(state["negatives"], keys),
      "temperature": self.temperature.advance(state["temperature"], anchors.side, taus, stats),
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
    if self.temperature.bounds is not None:
      low, high = self.temperature.bounds
      rounding = 1e-6  # a learned one is the exponential of a logarithm
      at_bound = (taus <= low * (1 + rounding)) | (taus >= high * (1 - rounding))
      metrics["at_bound"] = at_bound.astype(taus.dtype)
    minimized = self.temperature.weigh(value, taus)
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

  def _group(self, seen, paths):
    masks = pick(seen, self.mask) if self.mask else {}
    groups = [
      of_examples(seen, z, view or 0, self.sides, self._mask(masks, view))
      for path in ((paths,) if isinstance(paths, str) else paths)
      for view, z in pick(seen, path).items()
    ]
    return join(*groups)

  def _mask(self, masks, view):
    """The mask of a view: its own, or one that belongs to no view, such as a field of the batch."""
    if masks and view not in masks and None not in masks:
      raise UserError(f"mask: there is none of view {view} at {self.mask!r}")
    return masks.get(view, masks.get(None))


def check_parts(contrast: Contrast) -> None:
  """Raises UserError unless the parts are of their kinds and fit each other."""
  loss, temperature, score = contrast.loss, contrast.temperature, contrast.score
  if isinstance(loss, FunctionType | type):
    name = loss.__name__
    known = f"take criteria.{name}(…)" if name in vars(criteria) else "criteria.info_nce() is one"
    raise UserError(f"loss must be a criterion, and {name} is not an instance of one; {known}")
  check_kind("loss", loss, Criterion, "criteria.info_nce()")
  check_kind("temperature", temperature, Temperature, "temperatures.fixed(0.1)")
  check_kind("score", score, Score, "pairwise.cosine()")
  check_kind("negatives", contrast.negatives, Negatives, "negatives.in_batch()")
  check_kind("plan", contrast.plan, Plan, "pairwise.Plan()")
  check_relation(contrast.relation)
  if temperature.learns_bias and not loss.learns_bias:
    raise UserError(
      "a bias changes no softmax, so only the loss siglip learns one; leave bias out of learned, "
      "or take siglip"
    )
  if score.has_temperature and temperature != fixed(1.0):
    raise UserError(
      f"{type(score).__name__} has temperatures of its own, so the method's is fixed(1.0), "
      f"not {temperature}"
    )
