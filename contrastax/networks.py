"""Networks applied by name within one pure function.

A method or a term applies its networks in one body:

  def see(self, net, batch):
    x = net.views(self.views, batch, self.input)
    net("projection", embedding(net("encoder", x)))

`{view: x}` maps the number of a view to its inputs, arrays or trees of arrays [n, …]. Everything
that a network returns is kept in `net.seen`, by the network's name and the view. The body also runs
once at initialization, where a network's first call draws its parameters, so no shape is stated
twice. Random keys depend on the network's name, the shape of its inputs and the number of the call.
"""

from __future__ import annotations

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
  named,
)  # fmt: skip
from contrastax.paths import by_view, fields, read_only
from contrastax.views import draw_views


class Owner:
  """What has networks: the base of methods and of terms that are `Measured`.

  momentum: m of the moving averages that `Net.target` applies, a number or a schedule, or None.
  """

  momentum: float | Schedule | None = None

  def network(self, name: str) -> Encoder:
    """The network of this name: the field."""
    return getattr(self, name)


class Net:
  """Applies the networks of a method or a term by name, and keeps what they return.

  `see` and `measure` get a `Net` as their first argument; nobody else needs to make one.

  Args:
    owner: the method or the term.
    params, state: its entries; at initialization both are empty.
    key: the key of this step.
    step: the number of the step.
    starting: whether this is the initialization. Then parameters are drawn, and every state keeps
      its initial value.
  """

  def __init__(
    self, owner: Owner, params: Params, state: State, key: Array, *, step: Array | int = 0,
    starting: bool = False,
  ):  # fmt: skip
    self.owner, self.key, self.step, self.starting = owner, key, step, starting
    self._params, self._state, self._seen = dict(params), dict(state), {}
    self._calls: dict[Any, int] = {}

  @property
  def params(self) -> Mapping[str, Params]:
    """The owner's parameters, read-only."""
    return MappingProxyType(self._params)

  @property
  def state(self) -> Mapping[str, State]:
    """The owner's state, read-only; `keep` changes it."""
    return MappingProxyType(self._state)

  @property
  def seen(self) -> Mapping[str, Any]:
    """What the networks returned, by name and view, read-only; `record` adds to it."""
    return read_only(self._seen)

  def __call__(self, name: str, xs: Any) -> Any:
    """Applies a network.

    Args:
      name: the owner's field that holds the network.
      xs: {view: x}, or one x. Consecutive views of one shape pass together, as one batch of which
        BatchNorm takes its statistics.

    Returns:
      {view: y}, or one y.
    """
    network, (views, one) = self._network(name), by_view(xs)
    if self.starting and name not in self._params:
      first = next(iter(views.values()))
      self._params[name], self._state[name] = network.init(named(self.key, name), first)
    own = self._params[name], self._state[name]
    outputs, self._state[name] = self._forward(network, name, *own, views)
    self.record(name, outputs)
    return outputs[0] if one else outputs

  def target(self, name: str, xs: Any) -> Any:
    """Applies the moving average of a network, without gradient.

    It begins as a copy of the network, which must have been applied before; the outputs are kept
    under `target`.
    """
    views, one = by_view(xs)
    if self.starting:
      self._begin_target(name)
    target = self._state["target"]
    own = target["params"][name], target["state"][name]
    outputs, state = self._forward(self._network(name), name, *own, views, target=True)
    self._state["target"] = {**target, "state": {**target["state"], name: state}}
    outputs = jax.lax.stop_gradient(outputs)
    kept = self._seen.get("target", {})
    self._seen["target"] = {**kept, name: {**kept.get(name, {}), **outputs}}
    return outputs[0] if one else outputs

  def views(
    self,
    recipes: Recipe | tuple[Recipe, ...],
    batch: Batch,
    input: str | tuple[str, ...],
    *,
    first: int = 0,
    count: int | None = None,
  ) -> dict[int, Any]:
    """Draws random views of the batch: {view: x}. They are kept under `view`, their sides under
    `side`.

    Args:
      recipes: one per view; a single recipe stands for two views.
      batch: the batch.
      input: the field that is viewed, or a tuple of fields, which the recipe gets as a mapping.
      first: the number of the first view.
      count: the number of views that there must be.
    """
    recipes = (recipes, recipes) if callable(recipes) else recipes
    owner = type(self.owner).__name__
    if not (isinstance(recipes, tuple | list) and recipes and all(map(callable, recipes))):
      raise UserError(
        f"{owner}: views must be a recipe, or a tuple of one per view, not {recipes!r}"
      )
    if count is not None and len(recipes) != count:
      raise UserError(
        f"{owner} takes {count} views, not {len(recipes)}; give one recipe or {count}"
      )
    x, index = fields(batch, input, owner), batch["index"]
    drawn = dict(enumerate(draw_views(recipes, self.key, x, index, first=first), first))
    drawn = {v: x if isinstance(x, View) else View(x, {}) for v, x in drawn.items()}
    self.record("side", {v: view.side for v, view in drawn.items()})
    self.record("view", {v: view.x for v, view in drawn.items()})
    return {v: view.x for v, view in drawn.items()}

  def begun(self, name: str, make: Callable[[], State]) -> State:
    """A state of the owner's own, which begins as `make()`."""
    if self.starting and name not in self._state:
      self._state[name] = make()
    return self._state[name]

  def keep(self, name: str, value: State) -> None:
    """The state of this name after the step. At initialization the state stays as it begins."""
    if not self.starting:
      self._state[name] = value

  def param(self, name: str, make: Callable[[], Params]) -> Params:
    """A parameter of the owner's own, which begins as `make()`."""
    if self.starting and name not in self._params:
      self._params[name] = make()
    return self._params[name]

  def record(self, name: str, values: Any) -> None:
    """Keeps an array in `seen`, or adds values by view or by name to what is there."""
    if isinstance(values, Mapping):
      values = {**self._seen.get(name, {}), **values}
    self._seen[name] = values

  def freeze(self, name: str, frozen: Array | bool) -> None:
    """Stops the gradient of a network's parameters in this step where `frozen` holds."""
    if not self.starting:
      self._params[name] = jax.tree.map(
        lambda x: jnp.where(frozen, jax.lax.stop_gradient(x), x), self._params[name]
      )

  def _network(self, name):
    network = self.owner.network(name)
    if not isinstance(network, Encoder):
      raise UserError(
        f"{type(self.owner).__name__}: {name} must be an Encoder, such as encoders.mlp((64,)), not "
        f"{network!r}"
      )
    return network

  def _begin_target(self, name):
    if self.owner.momentum is None:
      raise UserError(
        f"{type(self.owner).__name__} applies a moving average of {name}, so it needs momentum=…"
      )
    target = self._state.setdefault("target", {"params": {}, "state": {}})
    # Copies: a step consumes its state, and cannot consume one buffer twice.
    for kind, of in (("params", self._params), ("state", self._state)):
      target[kind].setdefault(name, jax.tree.map(jnp.copy, of[name]))

  def _forward(self, network, name, params, state, views, target=False):
    outputs, begun, key = {}, state, named(self.key, "target") if target else self.key
    for (shape, _), of_shape in itertools.groupby(views.items(), key=_kind):
      of_shape = list(of_shape)
      for bunch in [of_shape] if network.together else [[item] for item in of_shape]:
        x = jax.tree.map(lambda *rows: jnp.concatenate(rows), *(x for _, x in bunch))
        own = self._call_key(key, f"{name} {shape}", target)
        y, state = network.apply(params, state, x, key=own, train=True)
        for i, (view, _) in enumerate(bunch):
          outputs[view] = jax.tree.map(functools.partial(_rows, i, len(bunch)), y)
    return outputs, begun if self.starting else state

  def _call_key(self, key, call, target):
    """The key of the first call of one name and shape is folded from these, of others by number."""
    count = self._calls.get((call, target), 0)
    self._calls[call, target] = count + 1
    return jax.random.fold_in(named(key, call), count) if count else named(key, call)


def _kind(item):
  """The shape and the types of a view: views of one kind are concatenated."""
  return shape_of(item[1]), [jnp.result_type(leaf) for leaf in jax.tree.leaves(item[1])]


def _rows(i, count, rows):
  """Part number i of so many."""
  size = len(rows) // count
  return rows[i * size : (i + 1) * size]


def advance(owner: Owner, params: Params, state: State, step: Array) -> State:
  """The state with its moving averages moved: θ' ← m θ' + (1 − m) θ, m the owner's momentum.

  Parameters alone are averaged: BatchNorm's running statistics are those of the targets' own
  inputs.
  """
  if "target" not in state:
    return state
  target, m = state["target"], schedules.at(owner.momentum, step)
  moved = ema(target["params"], {name: params[name] for name in target["params"]}, m)
  return {**state, "target": {**target, "params": moved}}


def ema(average: Any, new: Any, momentum: Array | float) -> Any:
  """m average + (1 − m) new, leaf by leaf, in each leaf's own type."""

  def move(a, b):
    return (a + (1 - momentum) * (b - a)).astype(a.dtype)

  return jax.tree.map(move, average, new)


def shape_of(x: Any) -> Any:
  """The shape of an array; of a tree its structure and the shapes of its leaves."""
  leaves, tree = jax.tree.flatten(x)
  if len(leaves) == 1 and leaves[0] is x:
    return jnp.shape(x)
  return str(tree), tuple(map(jnp.shape, leaves))
