"""An online probe: a linear classifier that is trained beside the encoder, to watch a run.

It sees features without their gradient, so it does not change how the encoder is trained.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.core import Tracer
from numpy.typing import ArrayLike

from contrastax.core import Array, State, UserError, check_integer, embedding_of
from contrastax.evaluation.inputs import vectors
from contrastax.paths import select
from contrastax.views.images import as_input


@dataclasses.dataclass(frozen=True)
class online_probe:
  """A linear classifier of `classes` classes, one step of Adam per batch.

  Features are standardized by their batch, so that one `learning_rate` serves features of
  any scale, which change while the encoder learns. Pure: the state is a tree of arrays.

  Labels are class numbers 0 … classes − 1, integers or bools. As everywhere in training, −1 means
  "no label". Any other number is a UserError; where labels are traced, as in a compiled train
  step, it makes accuracy and parameters NaN, by which a run stops.
  """

  classes: int
  learning_rate: float = 3e-3

  def __post_init__(self):
    check_integer("classes", self.classes, 1)

  def init(self, d: int) -> State:
    """The state of a probe of features [n, d]; it says that all classes are equally likely."""
    check_integer("d", d, 1)
    params = {"kernel": jnp.zeros((d, self.classes)), "bias": jnp.zeros(self.classes)}
    return {"params": params, "optimizer": self._optimizer.init(params)}

  def step(
    self, state: State, features: ArrayLike, label: ArrayLike
  ) -> tuple[State, Mapping[str, Array]]:
    """The state after one step, and the metrics of the batch.

    Args:
      state: of `init`, or of the step before.
      features: [n, d].
      label: [n]. An example without a label counts neither in the loss nor in the accuracy, but
        its features take part in the standardization.

    Returns:
      (state, metrics). `online_accuracy` is the accuracy on this batch before the step, so on
      examples whose label the probe has not seen in the first epoch. Where no example has a
      label the accuracy is 0 and the state stays as it is.

    Raises:
      UserError for features or labels of another shape or type, for features that are not finite
      and for labels out of range, as far as they are not traced.
    """
    z = _standardized(jax.lax.stop_gradient(vectors(features, "features")))
    d = state["params"]["kernel"].shape[0]
    if z.shape[1] != d:
      raise UserError(f"an online probe of {d} dimensions is given features of {z.shape[1]}")
    target, weight = self.targets(label, len(z))
    weight = weight.astype(z.dtype)
    total = weight.sum()
    count = jnp.where(total == 0, 1, total)

    def objective(params):
      logits = z @ params["kernel"] + params["bias"]
      loss = optax.softmax_cross_entropy_with_integer_labels(logits, target)
      hit = weight * (logits.argmax(1) == target)
      return (weight * loss).sum() / count, hit.sum() / count

    grads, accuracy = jax.grad(objective, has_aux=True)(state["params"])
    updates, optimizer = self._optimizer.update(grads, state["optimizer"], state["params"])
    after = {"params": optax.apply_updates(state["params"], updates), "optimizer": optimizer}
    # Adam would move by its momentum alone.
    after = jax.tree.map(lambda old, new: jnp.where(total == 0, old, new), state, after)
    return after, {"online_accuracy": accuracy}

  def targets(self, label: ArrayLike, count: int) -> tuple[Array, Array]:
    """(class numbers [n] in range, weights [n]): of weight 0 without a label, NaN out of range."""
    known = not isinstance(label, Tracer)
    given: Any = np.asarray(label) if known else label
    if given.shape != (count,):
      raise UserError(f"label must be [{count}], one for each example, not {list(given.shape)}")
    if given.dtype != bool and not jnp.issubdtype(given.dtype, jnp.integer):
      raise UserError(f"label must be integers or bools, not {given.dtype}; number the classes")
    given = given.astype(np.int32) if given.dtype == bool else given
    if known:
      wrong = np.flatnonzero((given < -1) | (given >= self.classes))
      if len(wrong):
        raise UserError(
          f"row {wrong[0]} has the label {given[wrong[0]]}; an online probe of {self.classes} "
          f"classes takes 0 … {self.classes - 1}, and −1 for no label"
        )
      given = given.astype(np.int32)
    # Clipped in its own type, as a cast could turn a label out of range into one in range.
    info = jnp.iinfo(given.dtype)
    given = jnp.clip(given, max(-2, info.min), min(self.classes, info.max)).astype(jnp.int32)
    in_range = (given >= 0) & (given < self.classes)
    weight = jnp.where(in_range, 1.0, jnp.where(given == -1, 0.0, jnp.nan))
    return jnp.where(in_range, given, 0), weight

  @property
  def _optimizer(self):
    return optax.adam(self.learning_rate)


@dataclasses.dataclass(frozen=True)
class with_online_probe:
  """A method with an online probe of its encoder, trained exactly as the method alone is.

  method: any with `evaluated` and `network`, as `methods.BaseMethod` has them.
  probe: the probe; the batch's `label` are its labels.

  The features are those of the inputs without views, in evaluation mode, as in an evaluation of
  the run. That costs a forward pass of the batch, beside two forward and backward. The parameters
  are the method's; its state gets an entry `online_probe`, and its metrics `online_accuracy`.
  """

  method: Any
  probe: online_probe

  @property
  def evaluated(self):
    return self.method.evaluated

  @property
  def examples(self):
    return self.method.examples

  @property
  def step(self):
    """The method's own train step, or None."""
    return getattr(self.method, "step", None)

  def network(self, name):
    return self.method.network(name)

  def init(self, key, batch):
    if "label" not in batch:
      raise UserError(f"an online probe needs labels; the batch has {', '.join(sorted(batch))}")
    self.probe.targets(batch["label"], len(batch["label"]))
    params, state = self.method.init(key, batch)
    features = jax.eval_shape(lambda: self._features(params, state, batch))
    return params, {**state, "online_probe": self.probe.init(features.shape[-1])}

  def objective(self, params, state, batch, key):
    own = {name: part for name, part in state.items() if name != "online_probe"}
    features = self._features(jax.lax.stop_gradient(params), own, batch)
    probe, seen = self.probe.step(state["online_probe"], features, batch["label"])
    value, (own, metrics) = self.method.objective(params, own, batch, key)
    return value, ({**own, "online_probe": probe}, {**metrics, **seen})

  def advance(self, params, state, step):
    own = {name: part for name, part in state.items() if name != "online_probe"}
    own = self.method.advance(params, own, step)
    return {**own, "online_probe": state["online_probe"]}

  def _features(self, params, state, batch):
    network, input, _ = self.method.evaluated
    inputs = jax.tree.map(as_input, select(batch, input))
    outputs, _ = self.method.network(network).apply(
      params[network], state[network], inputs, key=None, train=False
    )
    return embedding_of(outputs)


def _standardized(features):
  """Each dimension less its mean, divided by its deviation; a nearly constant one stays near 0."""
  features = features.astype(jnp.promote_types(features.dtype, jnp.float32))
  variance = features.var(0)
  scale = jnp.sqrt(variance + 1e-6 * variance.max())
  return (features - features.mean(0)) / jnp.where(scale > 0, scale, 1)
