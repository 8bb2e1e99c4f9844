"""What methods share: from one body and its terms to `init`, `objective` and `advance`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from contrastax import networks, schedules
from contrastax.core import (
  Array,
  Batch,
  Criterion,
  Encoder,
  Negatives,
  Params,
  Recipe,
  Score,
  State,
  Temperature,
  Term,
  UserError,
  check_kind,
  named,
)
from contrastax.criteria import info_nce
from contrastax.evaluation import embedding_std
from contrastax.negatives import in_batch
from contrastax.networks import Net, Owner, shape_of
from contrastax.pairwise import Plan, cosine, unit
from contrastax.relations import Relation, same_example
from contrastax.temperatures import fixed
from contrastax.terms import Contrast

NETWORKS = (Encoder, Encoder | None, "Encoder", "Encoder | None")  # annotations of networks
MAIN = "contrast"  # the tag of the term whose metrics are the method's own


class Evaluated(NamedTuple):
  """What is evaluated of a method: the name of the network, the field or fields that it encodes, and
  the recipe, or recipes, of their views."""

  network: str
  input: str | tuple[str, ...]
  views: Recipe | tuple[Recipe, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class BaseMethod(Owner):
  """The base of methods: a frozen dataclass of networks and other parts, with one body, `see`.

    objective = the value that `see` returns, or that of `main`, + Σ_terms weight · term

  A method of your own:

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Mine(methods.BaseMethod):
      encoder: Encoder
      views: Recipe

      def see(self, net, batch):
        z = net("encoder", net.views(self.views, batch, self.input))
        return losses.negative_cosine(z[0], z[1]), {}

  Args:
    input: the field of the batch that is encoded, "image" by default. A tuple of fields is encoded as
      a mapping {field: array}.
    terms: further summands of the objective, each with its own weight and tag.
    examples: the size of the data set. Only parts with a table of all examples need it, such as
      `temperatures.individual`.
  """

  input: str | tuple[str, ...] = "image"
  terms: tuple[Term, ...] = ()
  examples: int = 0

  def __post_init__(self):
    if not (isinstance(self.terms, tuple) and all(isinstance(t, Term) for t in self.terms)):
      raise UserError(f"terms must be a tuple of terms, such as (Apply(…),), not {self.terms!r}")
    for field in dataclasses.fields(self):
      network = getattr(self, field.name)
      if field.type in NETWORKS and network is not None:
        check_kind(field.name, network, Encoder, "encoders.mlp((64,))")
    all_terms(self)

  @property
  def main(self) -> Term | None:
    """The method's own term, `contrast` in parameters and state; None where `see` returns a value."""
    return None

  def see(self, net: Net, batch: Batch) -> tuple[Array, Mapping[str, Array]] | None:
    """Applies the networks. It runs once at initialization and once per step.

    Args:
      net: applies the fields by name: `net("encoder", {0: x0, 1: x1})` returns {0: y0, 1: y1}, and
        `net.views(self.views, batch, self.input)` returns the views {0: x0, 1: x1}.
      batch: {field: array [n, …]}, with `index` [n], the numbers of the examples.

    Returns:
      (value, metrics). The value is minimized. It is a scalar, or one value per example [n], which
      is averaged. A method whose terms are its whole objective returns None.
    """
    raise NotImplementedError

  @property
  def evaluated(self) -> Evaluated:
    """What is evaluated, and kept after training.

    By default the field `encoder`, of `input`; a method without such fields, or without `views`,
    overrides this.
    """
    return Evaluated("encoder", self.input, self.views)

  def init(self, key: Array, batch: Batch) -> tuple[Params, State]:
    """(parameters, state) before the first step."""
    net = Net(self, {}, {}, key, starting=True)
    self.see(net, batch)
    seen = self._seen(net, batch, jnp.int32(0))
    made = {
      tag: term.init(_key_of(tag, key), seen, self.examples)
      for tag, term in all_terms(self).items()
    }
    params = {**net.params, "terms": {tag: own for tag, (own, _) in made.items()}}
    state = {**net.state, "terms": {tag: own for tag, (_, own) in made.items()}}
    return params, {**state, "step": jnp.int32(0)}

  def seen(self, params: Params, state: State, batch: Batch, key: Array) -> Mapping[str, Any]:
    """What the networks return in a training step, by name and view: what terms read."""
    net = Net(self, params, state, key, step=state["step"])
    self.see(net, batch)
    return self._seen(net, batch, state["step"])

  def objective(
    self, params: Params, state: State, batch: Batch, key: Array
  ) -> tuple[Array, tuple[State, Mapping[str, Array]]]:
    """The scalar to minimize, and (the next state, metrics).

    Metrics: those of the method's own value, or else of the term `contrast`, `loss` among them; of
    every other term its value as TAG and its metrics as TAG/NAME; and `objective`, the sum, where there
    are further terms.
    """
    step = state["step"]
    net = Net(self, params, state, key, step=step)
    own_value, metrics = self.see(net, batch) or (None, {})
    total = 0.0 if own_value is None else jnp.mean(own_value)
    metrics = {"loss": total, **metrics}
    seen, moved = self._seen(net, batch, step), {}
    for tag, term in all_terms(self).items():
      if tag in {*metrics, "objective"}:
        raise UserError(f"a term is called {tag!r}, as a metric is; give it another tag")
      own = params["terms"][tag], state["terms"][tag]
      value, moved[tag], more = term(*own, seen, _key_of(tag, key))
      total += schedules.at(term.weight, step) * value
      if tag == MAIN and own_value is None:
        metrics |= {"loss": value, **more}
      else:
        metrics |= {tag: value, **{f"{tag}/{name}": x for name, x in more.items()}}
    if self.terms:
      metrics["objective"] = total
    if own_value is None and MAIN not in moved:
      metrics["loss"] = total
    metrics = {name: jnp.mean(jax.lax.stop_gradient(x)) for name, x in metrics.items()}
    return total, ({**net.state, "terms": moved}, metrics)

  def advance(self, params: Params, state: State, step: Array) -> State:
    """The state after the optimizer's step: moving averages follow, also those of terms."""
    state = networks.advance(self, params, state, step)
    terms = {
      tag: term.advance(params["terms"][tag], state["terms"][tag], step)
      for tag, term in all_terms(self).items()
    }
    return {**state, "terms": terms, "step": step + 1}

  def _seen(self, net, batch, step):
    return {**net.seen, "batch": batch, "step": step, "examples": self.examples}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ContrastiveMethod(BaseMethod):
  """The base of methods whose own term is a `Contrast`, of which these are the parts.

  Args:
    temperature: what divides the similarities, one of `contrastax.temperatures`.
    loss: one of `contrastax.criteria`.
    negatives: where further candidates come from, one of `contrastax.negatives`, joined by `+`.
    relation: which pairs are positives and negatives, one of `contrastax.relations`, joined by `&`.
    score: the similarity.
    plan: how all pairs are evaluated; on several devices `Plan(mesh=mesh)`.
  """

  temperature: Temperature = fixed(0.5)
  loss: Criterion = info_nce()
  negatives: Negatives = in_batch()
  relation: Relation = same_example()
  score: Score = cosine()
  plan: Plan = Plan()

  contrasted: ClassVar[Mapping[str, Any]] = {"anchors": "projection"}

  @property
  def main(self) -> Contrast:
    """The contrast of what `contrasted` names: paths of anchors and keys."""
    parts = ("temperature", "loss", "negatives", "relation", "score", "plan")
    return Contrast(**self.contrasted, **{name: getattr(self, name) for name in parts})


def all_terms(method: BaseMethod) -> dict[str, Term]:
  """The method's own term, as `contrast`, and the further ones, by their tags."""
  main = method.main
  found = {} if main is None else {MAIN: main}
  for term in method.terms:
    tag = term.tag or type(term).__name__.lower()
    if tag in found:
      raise UserError(f"two terms are called {tag!r}; give one of them another tag")
    found[tag] = term
  return found


def _key_of(tag, key):
  """The key of a term: the method's own for `contrast`, so that further terms do not change it."""
  return key if tag == MAIN else named(key, f"term {tag}")


def check_first_two(method: BaseMethod, x: Mapping[int, Any]) -> None:
  """Raises UserError unless there are two views or more, and the first two are of one size."""
  sizes = [shape_of(view) for view in x.values()]
  if len(sizes) < 2 or sizes[0] != sizes[1]:
    shown = ", ".join("×".join(map(str, size[1:-1])) for size in sizes[:2])
    raise UserError(
      f"{type(method).__name__} makes targets of its first two views, which must be of one size, "
      f"not {shown}; views.multi_crop gives them so"
    )


def summary(z1: Array, z2: Array) -> dict[str, Array]:
  """The metrics of a method without negatives, of two views [n, d] of its examples.

  `similarity`: their mean cosine; `embedding_std`: as of `Contrast`, of z1.
  """
  z1, z2 = jax.lax.stop_gradient((z1, z2))
  return {"similarity": (unit(z1) * unit(z2)).sum(1).mean(), "embedding_std": embedding_std(z1)}
