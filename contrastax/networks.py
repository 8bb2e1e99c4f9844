"""Networks that are applied by name within one pure function.

A method or a term applies its networks in one function:

    def see(self, net, batch):
      x = net.views(self.views, batch, self.input)
      net("projection", embedding(net("encoder", x)))

A mapping `{view: x}` has the number of a view as key and its inputs, an array or a tree of arrays
[n, …], as value. `net.seen` contains every output of a network, by the name of the network and the
view.

The function also runs once at initialization. The first call of a network then draws its parameters,
so no shape is specified twice. Random keys depend on the name of the network, the shape of its inputs
and the number of the call.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp

from contrastax import schedules
from contrastax.core import (
  Array,
  Batch,
  Encoder,
  Params,
  Recipe,
  Schedule,
  State,
  UserError,
  View,
  check_kind,
  named,
)  # fmt: skip
from contrastax.paths import by_view, fields, read_only
from contrastax.views import draw_views

ENCODERS = "encoders.mlp((64,)), or encoders.from_nnx(lambda x, rngs: …) for a Flax NNX module"
"""Examples of encoders for messages."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Owner:
  """The base of objects with networks: methods, and terms that are `Measured`.

  Attributes:
    momentum: m of the moving averages that `Net.target` applies, a number or a schedule. None means
      that there are no moving averages. Subclasses with moving averages declare it as an argument.
  """

  # A field, so that a subclass may give it a narrower type. By default it is not an argument.
  momentum: float | Schedule | None = dataclasses.field(
    default=None, init=False, repr=False, compare=False
  )

  def network(self, name: str) -> Encoder:
    """Returns the network with this name. By default it is the field with this name."""
    return getattr(self, name)


class Net:
  """Applies the networks of a method or a term by name, and records their outputs.

  The methods `see` and `measure` get a `Net` as their first argument.

  Args:
    owner: the method or the term.
    params: its parameters; empty at initialization.
    state: its state; empty at initialization.
    key: the random key of this step.
    step: the number of the step.
    starting: whether this is the initialization. Parameters are then drawn, and every state keeps
      its first value.
  """

  def __init__(
    self, owner: Owner, params: Params, state: State, key: Array, *, step: Array | int = 0,
    starting: bool = False,
  ):  # fmt: skip
    self.owner, self.key, self.step, self.starting = owner, key, step, starting
    self._params, self._state = dict(params), dict(state)
    self._seen: dict[str, Any] = {}
    self._calls: dict[Any, int] = {}

  @property
  def params(self) -> Mapping[str, Params]:
    """The parameters of the owner, read-only."""
    return MappingProxyType(self._params)

  @property
  def state(self) -> Mapping[str, State]:
    """The state of the owner, read-only. `keep` changes it."""
    return MappingProxyType(self._state)

  @property
  def seen(self) -> Mapping[str, Any]:
    """The outputs of the networks, by name and view, read-only. `record` adds to them."""
    return read_only(self._seen)

  def __call__(self, name: str, xs: Any) -> Any:
    """Applies a network.

    Args:
      name: the name of the network, a field of the owner.
      xs: {view: x}, or one x. Consecutive views of one shape are encoded in one call, as one batch
        for the statistics of BatchNorm.

    Returns:
      {view: y}, or one y.

    Raises:
      UserError: the field is not an encoder.
    """
    network, (views, is_single) = self._network(name), by_view(xs)
    if self.starting and name not in self._params:
      first = next(iter(views.values()))
      self._params[name], self._state[name] = network.init(named(self.key, name), first)
    own = self._params[name], self._state[name]
    outputs, self._state[name] = self._forward(network, name, *own, views)
    self.record(name, outputs)
    return outputs[0] if is_single else outputs

  def target(self, name: str, xs: Any) -> Any:
    """Applies the moving average of a network, without gradient.

    The average starts as a copy of the network. The outputs are recorded under `target`.

    Args:
      name: the name of the network, which must have been applied before.
      xs: {view: x}, or one x.

    Returns:
      {view: y}, or one y.

    Raises:
      UserError: the owner has no momentum.
    """
    views, is_single = by_view(xs)
    if self.starting:
      self._begin_target(name)
    target = self._state["target"]
    own = target["params"][name], target["state"][name]
    outputs, state = self._forward(self._network(name), name, *own, views, target=True)
    self._state["target"] = {**target, "state": {**target["state"], name: state}}
    outputs = jax.lax.stop_gradient(outputs)
    targets = self._seen.get("target", {})
    self._seen["target"] = {**targets, name: {**targets.get(name, {}), **outputs}}
    return outputs[0] if is_single else outputs

  def views(
    self,
    recipes: Recipe | tuple[Recipe, ...],
    batch: Batch,
    input: str | tuple[str, ...],
    *,
    first: int = 0,
    count: int | None = None,
  ) -> dict[int, Any]:
    """Draws random views of the batch.

    The views are recorded under `view`, and their sides under `side`.

    Args:
      recipes: a tuple of one recipe per view, or a single recipe, which draws two views.
      batch: the batch.
      input: the field that the recipes transform, or a tuple of fields, which are passed as a
        mapping.
      first: the number of the first view.
      count: the required number of views, or None.

    Returns:
      {view: x}.

    Raises:
      UserError: `recipes` are not recipes, their number is not `count`, or a field is missing.
    """
    recipes = (recipes, recipes) if callable(recipes) else recipes
    owner = type(self.owner).__name__
    if not (isinstance(recipes, tuple | list) and recipes and all(map(callable, recipes))):
      raise UserError(
        f"{owner}: views must be a recipe, or a tuple of one recipe per view, not {recipes!r}"
      )
    if count is not None and len(recipes) != count:
      raise UserError(
        f"{owner} takes {count} views, not {len(recipes)}; give one recipe or {count}"
      )
    x, index = fields(batch, input, owner), batch["index"]
    numbered = enumerate(draw_views(recipes, self.key, x, index, first=first), first)
    drawn = {v: x if isinstance(x, View) else View(x, {}) for v, x in numbered}
    self.record("side", {v: view.side for v, view in drawn.items()})
    self.record("view", {v: view.x for v, view in drawn.items()})
    return {v: view.x for v, view in drawn.items()}

  def begun(self, name: str, make: Callable[[], State]) -> State:
    """Returns a state that belongs to the owner itself. Its first value is `make()`."""
    if self.starting and name not in self._state:
      self._state[name] = make()
    return self._state[name]

  def keep(self, name: str, value: State) -> None:
    """Sets a state to its value after the step. At initialization it keeps its first value."""
    if not self.starting:
      self._state[name] = value

  def param(self, name: str, make: Callable[[], Params]) -> Params:
    """Returns a parameter that belongs to the owner itself. Its first value is `make()`."""
    if self.starting and name not in self._params:
      self._params[name] = make()
    return self._params[name]

  def record(self, name: str, values: Any) -> None:
    """Adds an array to `seen`, or adds values by view or by name to an entry of `seen`."""
    if isinstance(values, Mapping):
      values = {**self._seen.get(name, {}), **values}
    self._seen[name] = values

  def freeze(self, name: str, frozen: Array | bool) -> None:
    """Stops the gradient of the parameters of a network in this step if `frozen` is true."""
    if not self.starting:
      self._params[name] = jax.tree.map(
        lambda x: jnp.where(frozen, jax.lax.stop_gradient(x), x), self._params[name]
      )

  def _network(self, name: str) -> Encoder:
    network = self.owner.network(name)
    return check_kind(f"{type(self.owner).__name__}: {name}", network, Encoder, ENCODERS)

  def _begin_target(self, name: str) -> None:
    if self.owner.momentum is None:
      raise UserError(
        f"{type(self.owner).__name__} applies a moving average of {name}, so it needs momentum=…"
      )
    target = self._state.setdefault("target", {"params": {}, "state": {}})
    # The arrays are copied, because a step donates its buffers and cannot donate one buffer twice.
    for kind, trees in (("params", self._params), ("state", self._state)):
      target[kind].setdefault(name, jax.tree.map(jnp.copy, trees[name]))

  def _forward(self, network, name, params, state, views, target=False):
    outputs, first_state, key = {}, state, named(self.key, "target") if target else self.key
    for (shape, _), same_shape in itertools.groupby(views.items(), key=_shape_and_types):
      same_shape = list(same_shape)
      for calls in [same_shape] if network.together else [[item] for item in same_shape]:
        x = jax.tree.map(lambda *rows: jnp.concatenate(rows), *(x for _, x in calls))
        call_key = self._call_key(key, f"{name} {shape}", target)
        y, state = network.apply(params, state, x, key=call_key, train=True)
        for i, (view, _) in enumerate(calls):
          outputs[view] = jax.tree.map(functools.partial(_chunk, i, len(calls)), y)
    return outputs, first_state if self.starting else state

  def _call_key(self, key, call, target):
    """Returns a random key that depends on the name, the shape and the number of the call."""
    count = self._calls.get((call, target), 0)
    self._calls[call, target] = count + 1
    return jax.random.fold_in(named(key, call), count) if count else named(key, call)


def _shape_and_types(item: tuple[int, Any]) -> tuple[Any, list[Any]]:
  """Returns the shape and types of a view. Views with equal shapes and types are concatenated."""
  return shape_of(item[1]), [jnp.result_type(leaf) for leaf in jax.tree.leaves(item[1])]


def _chunk(i: int, count: int, rows: Array) -> Array:
  """Returns chunk i of `count` equal chunks."""
  size = len(rows) // count
  return rows[i * size : (i + 1) * size]


def advance(owner: Owner, params: Params, state: State, step: Array) -> State:
  """Updates the moving averages after the optimizer's step.

      θ' ← m θ' + (1 − m) θ

  Only parameters are averaged. The running statistics of BatchNorm in a target network come from the
  inputs of the target network.

  Args:
    owner: the method or the term, with the momentum m.
    params: its parameters θ after the step.
    state: its state with the averages θ'.
    step: the number of the step.

  Returns:
    The state with the new averages.
  """
  if "target" not in state or owner.momentum is None:
    return state
  target, m = state["target"], schedules.at(owner.momentum, step)
  moved = ema(target["params"], {name: params[name] for name in target["params"]}, m)
  return {**state, "target": {**target, "params": moved}}


def ema(average: Any, new: Any, momentum: Array | float) -> Any:
  """Returns m average + (1 − m) new for trees of arrays. Each leaf of `average` keeps its type."""

  def update(a, b):
    return (a + (1 - momentum) * (b - a)).astype(a.dtype)

  return jax.tree.map(update, average, new)


def shape_of(x: Any) -> Any:
  """Returns the shape of an array, or the structure of a tree and the shapes of its leaves."""
  leaves, tree = jax.tree.flatten(x)
  if len(leaves) == 1 and leaves[0] is x:
    return jnp.shape(x)
  return str(tree), tuple(map(jnp.shape, leaves))
