"""The base classes of methods. A subclass implements `see`; the rest is derived from it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from typing_extensions import override

from contrastax import networks, schedules
from contrastax.core import (
  Array,
  Batch,
  Criterion,
  Encoder,
  Evaluated,
  Metrics,
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
from contrastax.networks import ENCODERS, Net, Owner, shape_of
from contrastax.pairwise import Plan, cosine, unit
from contrastax.relations import Relation, same_example
from contrastax.temperatures import fixed
from contrastax.terms import Contrast
from contrastax.terms.contrast import as_temperature

NETWORKS = (Encoder, Encoder | None, "Encoder", "Encoder | None")  # the annotations of networks
MAIN = "contrast"  # the tag of the method's own term; its metrics have no prefix


@dataclasses.dataclass(frozen=True, kw_only=True)
class BaseMethod(Owner):
  """The base of methods: a frozen dataclass of networks and other parts.

  A subclass implements `see`.

      objective = value of `see`, or of the term `main`, + Σ over terms of weight · term

  Args:
    input: the field of the batch that is encoded, "image" by default. A tuple of fields is encoded as
      a mapping {field: array}.
    terms: further summands of the objective, each with its own weight and tag.
    examples: the size of the data set. Only parts with a table of all examples need it, such as
      `temperatures.individual`.

  Example:
    >>> import dataclasses
    >>> from contrastax import encoders, losses, methods, views
    >>> from contrastax.core import Encoder, Recipe
    >>> @dataclasses.dataclass(frozen=True, kw_only=True)
    ... class Negativeless(methods.BaseMethod):
    ...   encoder: Encoder
    ...   views: Recipe
    ...
    ...   def see(self, net, batch):
    ...     z = net("encoder", net.views(self.views, batch, self.input))
    ...     return losses.negative_cosine(z[0], z[1]), {}
    >>> method = Negativeless(encoder=encoders.mlp((64,)), views=views.unchanged())
  """

  # It is declared here because `evaluated` reads it. A subclass with views makes it an argument.
  views: Recipe | tuple[Recipe, ...] = dataclasses.field(init=False, repr=False, compare=False)
  input: str | tuple[str, ...] = "image"
  terms: tuple[Term, ...] = ()
  examples: int = 0

  def __post_init__(self):
    if not (isinstance(self.terms, tuple) and all(isinstance(t, Term) for t in self.terms)):
      raise UserError(f"terms must be a tuple of terms, such as (Apply(…),), not {self.terms!r}")
    networks = [field.name for field in dataclasses.fields(self) if field.type in NETWORKS]
    for name in networks:
      if getattr(self, name) is not None:
        check_kind(name, getattr(self, name), Encoder, ENCODERS)
    all_terms(self)

  @property
  def main(self) -> Term | None:
    """The method's own term, tagged `contrast`; None if `see` returns the value."""
    return None

  def see(self, net: Net, batch: Batch) -> tuple[Array, Metrics] | None:
    """Applies the networks and computes the method's own loss.

    It runs once at initialization and once per step.

    Args:
      net: applies the fields by name: `net("encoder", {0: x0, 1: x1})` returns {0: y0, 1: y1}, and
        `net.views(self.views, batch, self.input)` returns the views {0: x0, 1: x1}.
      batch: {field: array [n, …]}, with `index` [n], the numbers of the examples.

    Returns:
      (value, metrics). The value is minimized. It is a scalar, or one value per example [n], which
      is averaged. A method returns None if its terms are its whole objective.
    """
    raise NotImplementedError

  @property
  def evaluated(self) -> Evaluated:
    """The network that is evaluated and kept after training, its input and its views.

    By default it is the field `encoder`, applied to `input`. A method without the fields `encoder`
    and `views` overrides this property.
    """
    return Evaluated("encoder", self.input, self.views)

  def init(self, key: Array, batch: Batch) -> tuple[Params, State]:
    """Returns (parameters, state) before the first step.

    Args:
      key: a random key.
      batch: a batch; its shapes and types are those of all batches.
    """
    net = Net(self, {}, {}, key, starting=True)
    self.see(net, batch)
    seen = self._seen(net, batch, jnp.int32(0))
    initial = {
      tag: term.init(_key_of(tag, key), seen, self.examples)
      for tag, term in all_terms(self).items()
    }
    params = {**net.params, "terms": {tag: params for tag, (params, _) in initial.items()}}
    state = {**net.state, "terms": {tag: state for tag, (_, state) in initial.items()}}
    return params, {**state, "step": jnp.int32(0)}

  def seen(self, params: Params, state: State, batch: Batch, key: Array) -> Mapping[str, Any]:
    """Returns the outputs of the networks in a training step, by name and view. Terms read them."""
    net = Net(self, params, state, key, step=state["step"])
    self.see(net, batch)
    return self._seen(net, batch, state["step"])

  def objective(
    self, params: Params, state: State, batch: Batch, key: Array
  ) -> tuple[Array, tuple[State, Metrics]]:
    """Returns the scalar to minimize, and (the next state, metrics).

    The metrics are those of `see` or of the term `contrast`, including `loss`. Every further term
    adds its value as TAG and its metrics as TAG/NAME. With further terms `objective` is the sum.

    Raises:
      UserError: a term has the name of a metric.
    """
    step = state["step"]
    net = Net(self, params, state, key, step=step)
    own_value, metrics = self.see(net, batch) or (None, {})
    total: Any = 0.0 if own_value is None else jnp.mean(own_value)
    metrics = {"loss": total, **metrics}
    seen, next_states = self._seen(net, batch, step), {}
    for tag, term in all_terms(self).items():
      if tag in {*metrics, "objective"}:
        raise UserError(f"the tag {tag!r} of a term is also the name of a metric; use another tag")
      entries = params["terms"][tag], state["terms"][tag]
      value, next_states[tag], more = term(*entries, seen, _key_of(tag, key))
      total += schedules.at(term.weight, step) * value
      if tag == MAIN and own_value is None:
        metrics |= {"loss": value, **more}
      else:
        metrics |= {tag: value, **{f"{tag}/{name}": x for name, x in more.items()}}
    if self.terms:
      metrics["objective"] = total
    if own_value is None and MAIN not in next_states:
      metrics["loss"] = total
    metrics = {name: jnp.mean(jax.lax.stop_gradient(x)) for name, x in metrics.items()}
    return total, ({**net.state, "terms": next_states}, metrics)

  def advance(self, params: Params, state: State, step: Array) -> State:
    """Returns the state after the optimizer's step, in which the moving averages are updated."""
    state = networks.advance(self, params, state, step)
    terms = {
      tag: term.advance(params["terms"][tag], state["terms"][tag], step)
      for tag, term in all_terms(self).items()
    }
    return {**state, "terms": terms, "step": step + 1}

  def _seen(self, net: Net, batch: Batch, step: Array) -> Mapping[str, Any]:
    return {**net.seen, "batch": batch, "step": step, "examples": self.examples}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ContrastiveMethod(BaseMethod):
  """The base of methods whose own term is a `Contrast`.

  A subclass implements `see` and sets `contrasted`.

  Args:
    temperature: one of `contrastax.temperatures`. It divides the similarities. A number x means
      `fixed(x)`.
    loss: one of `contrastax.criteria`.
    negatives: the further candidates, one of `contrastax.negatives`, combined by `+`.
    relation: the function that selects positives and negatives, one of `contrastax.relations`,
      combined by `&`.
    score: the similarity, one of `contrastax.pairwise`.
    plan: how all pairs are evaluated; `Plan(mesh=mesh)` on several devices.

  Attributes:
    contrasted: further arguments of the `Contrast`, in particular the paths of anchors and keys.

  Example:
    >>> import dataclasses
    >>> from contrastax import encoders, methods, views
    >>> from contrastax.core import Encoder, Recipe
    >>> @dataclasses.dataclass(frozen=True, kw_only=True)
    ... class Plain(methods.ContrastiveMethod):
    ...   encoder: Encoder
    ...   views: Recipe
    ...   contrasted = {"anchors": "encoder"}
    ...
    ...   def see(self, net, batch):
    ...     net("encoder", net.views(self.views, batch, self.input))
    >>> method = Plain(encoder=encoders.mlp((64,)), views=views.unchanged(), temperature=0.1)
  """

  temperature: Temperature | float = fixed(0.5)
  loss: Criterion = info_nce()
  negatives: Negatives = in_batch()
  relation: Relation = same_example()
  score: Score = cosine()
  plan: Plan = Plan()

  contrasted: ClassVar[Mapping[str, Any]] = {"anchors": "projection"}

  def __post_init__(self):
    object.__setattr__(self, "temperature", as_temperature(self.temperature))
    super().__post_init__()

  @property
  @override
  def main(self) -> Contrast:
    parts = ("temperature", "loss", "negatives", "relation", "score", "plan")
    return Contrast(**self.contrasted, **{name: getattr(self, name) for name in parts})


def all_terms(method: BaseMethod) -> dict[str, Term]:
  """Returns the terms of a method by their tags. The method's own term has the tag `contrast`.

  Raises:
    UserError: two terms have the same tag.
  """
  main = method.main
  terms: dict[str, Term] = {} if main is None else {MAIN: main}
  for term in method.terms:
    tag = term.tag or type(term).__name__.lower()
    if tag in terms:
      raise UserError(f"two terms are called {tag!r}; give one of them another tag")
    terms[tag] = term
  return terms


def _key_of(tag: str, key: Array) -> Array:
  """Returns the random key of a term. The key of the method's own term is `key` itself."""
  return key if tag == MAIN else named(key, f"term {tag}")


def check_first_two(method: BaseMethod, x: Mapping[int, Any]) -> None:
  """Checks that there are at least two views and that the first two have the same size.

  Args:
    method: the method, for the message.
    x: {view: x}.

  Raises:
    UserError: there are fewer views, or their sizes differ.
  """
  sizes = [shape_of(view) for view in x.values()]
  if len(sizes) < 2 or sizes[0] != sizes[1]:
    shown = ", ".join("×".join(map(str, size[1:-1])) for size in sizes[:2])
    raise UserError(
      f"the first two views of {type(method).__name__} must have the same size, not {shown}; "
      "views.multi_crop returns such views"
    )


def summary(z1: Array, z2: Array) -> dict[str, Array]:
  """Returns the metrics of a method without negatives.

  Args:
    z1: the vectors of the first view, [n, d].
    z2: the vectors of the second view, [n, d].

  Returns:
    `similarity`, the mean cosine of z1 and z2, and `embedding_std` of z1; see `Contrast`.
  """
  z1, z2 = jax.lax.stop_gradient((z1, z2))
  return {"similarity": (unit(z1) * unit(z2)).sum(1).mean(), "embedding_std": embedding_std(z1)}
