"""Online probes: linear classifiers that are trained beside an encoder, to monitor a run.

A probe takes features without their gradient, so it does not change the training of the encoder.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.core import Tracer
from numpy.typing import ArrayLike

from contrastax.core import (
  Array,
  Batch,
  Encoder,
  Params,
  State,
  UserError,
  check_integer,
  embedding_of,
)
from contrastax.evaluation.inputs import vectors
from contrastax.paths import select
from contrastax.views.images import as_input


@dataclasses.dataclass(frozen=True)
class online_probe:
  """A linear classifier that is trained by one step of Adam per batch.

  Features are standardized within their batch, because their scale changes while the encoder is
  trained. So the same learning rate can be used for features of any scale.

  Labels are class numbers 0 … classes − 1, integers or bools, and −1 means no label, as everywhere
  in training. Any other number raises UserError. If labels are traced, as in a compiled train step,
  such a number makes the accuracy and the parameters NaN, which stops the run.

  Args:
    classes: number of classes.
    learning_rate: learning rate of Adam.

  Raises:
    UserError: `classes` is not a positive integer.

  Example:
    >>> import numpy as np
    >>> from contrastax import evaluation
    >>> probe = evaluation.online_probe(2)
    >>> state, features, label = probe.init(2), np.eye(2, dtype=np.float32), np.arange(2)
    >>> for _ in range(2):
    ...   state, metrics = probe.step(state, features, label)
    >>> print(metrics["online_accuracy"])
    1.0
  """

  classes: int
  learning_rate: float = 3e-3

  def __post_init__(self):
    check_integer("classes", self.classes, 1)

  def init(self, d: int) -> State:
    """Returns the state before the first step, in which all classes are equally likely.

    Args:
      d: number of dimensions of the features.

    Returns:
      The parameters, which are 0, and the state of the optimizer.

    Raises:
      UserError: d is not a positive integer.
    """
    check_integer("d", d, 1)
    params = {"kernel": jnp.zeros((d, self.classes)), "bias": jnp.zeros(self.classes)}
    return {"params": params, "optimizer": self._optimizer.init(params)}

  def step(
    self, state: State, features: ArrayLike, label: ArrayLike
  ) -> tuple[State, Mapping[str, Array]]:
    """Trains the probe for one step.

    Args:
      state: the state from `init` or from the previous step.
      features: [n, d].
      label: [n]. An example without a label has no effect on the loss and the accuracy, but its
        features are used in the standardization.

    Returns:
      (next state, metrics). `online_accuracy` is the accuracy on this batch before the step, so in
      the first epoch the probe was not trained on these labels. If no example has a label, the
      accuracy is 0 and the state does not change.

    Raises:
      UserError: features or labels have another shape or type or, if they are not traced, features
        are not finite or labels are out of range.
    """
    z = _standardized(jax.lax.stop_gradient(vectors(features, "features")))
    d = state["params"]["kernel"].shape[0]
    if z.shape[1] != d:
      raise UserError(
        f"an online probe of {d} dimensions cannot take features of {z.shape[1]}; use probe.init({z.shape[1]})"
      )
    target, weight = self.targets(label, len(z))
    weight = weight.astype(z.dtype)
    total = weight.sum()
    count = jnp.where(total == 0, 1, total)

    def objective(params: Params) -> tuple[Array, Array]:
      logits = z @ params["kernel"] + params["bias"]
      loss = optax.softmax_cross_entropy_with_integer_labels(logits, target)
      hit = weight * (logits.argmax(1) == target)
      return (weight * loss).sum() / count, hit.sum() / count

    grads, accuracy = jax.grad(objective, has_aux=True)(state["params"])
    updates, optimizer = self._optimizer.update(grads, state["optimizer"], state["params"])
    after = {"params": optax.apply_updates(state["params"], updates), "optimizer": optimizer}
    # Without labels the gradient is 0, but Adam's momentum would still change the parameters.
    after = jax.tree.map(lambda old, new: jnp.where(total == 0, old, new), state, after)
    return after, {"online_accuracy": accuracy}

  def targets(self, label: ArrayLike, count: int) -> tuple[Array, Array]:
    """Checks labels and converts them to targets.

    Args:
      label: [n], class numbers, or −1 for no label.
      count: n, the number of examples.

    Returns:
      Class numbers [n], and weights [n]: 0 without a label, NaN for a label out of range, else 1.

    Raises:
      UserError: labels have another shape or type or, if they are not traced, are out of range.
    """
    known = not isinstance(label, Tracer)
    labels: Any = np.asarray(label) if known else label
    if labels.shape != (count,):
      raise UserError(f"label must be [{count}], one for each example, not {list(labels.shape)}")
    if labels.dtype != bool and not jnp.issubdtype(labels.dtype, jnp.integer):
      raise UserError(f"label must be integers or bools, not {labels.dtype}; number the classes")
    labels = labels.astype(np.int32) if labels.dtype == bool else labels
    if known:
      wrong = np.flatnonzero((labels < -1) | (labels >= self.classes))
      if len(wrong):
        raise UserError(
          f"row {wrong[0]} has the label {labels[wrong[0]]}; an online probe of {self.classes} "
          f"classes takes 0 … {self.classes - 1}, or −1 for no label"
        )
      labels = labels.astype(np.int32)
    # Labels are clipped in their own type, because a cast could turn a label out of range into a
    # valid one.
    info = jnp.iinfo(labels.dtype)
    labels = jnp.clip(labels, max(-2, info.min), min(self.classes, info.max)).astype(jnp.int32)
    in_range = (labels >= 0) & (labels < self.classes)
    weight = jnp.where(in_range, 1.0, jnp.where(labels == -1, 0.0, jnp.nan))
    return jnp.where(in_range, labels, 0), weight

  @property
  def _optimizer(self) -> optax.GradientTransformation:
    return optax.adam(self.learning_rate)


@dataclasses.dataclass(frozen=True)
class with_online_probe:
  """A method with an online probe of its encoder. It is trained exactly as without the probe.

  The features are embeddings of the inputs without views, in evaluation mode, as in an evaluation
  of the run. They cost one more forward pass of the batch. The parameters are those of the method.
  The state has the additional entry `online_probe`, and the metrics have `online_accuracy`.

  Args:
    method: a method that has `evaluated` and `network`, such as a `methods.BaseMethod`.
    probe: the probe. Its labels are the field `label` of the batch.

  Example:
    >>> import optax
    >>> import numpy as np
    >>> from contrastax import encoders, evaluation, methods, training, views
    >>> method = methods.SimCLR(
    ...   encoder=encoders.mlp((8,)),
    ...   projection=encoders.projection((8,), out=4),
    ...   views=views.affine_jitter(),
    ... )
    >>> method = evaluation.with_online_probe(method, evaluation.online_probe(2))
    >>> label = np.arange(4) % 2
    >>> batch = {"image": np.zeros((4, 6, 6, 1), np.uint8), "label": label, "index": np.arange(4)}
    >>> state = training.init(method, optax.sgd(0.1), batch)
    >>> _, metrics = training.make_train_step(method, optax.sgd(0.1))(state, batch)
    >>> "online_accuracy" in metrics
    True
  """

  method: Any
  probe: online_probe

  @property
  def evaluated(self) -> Any:
    """The evaluated network of the method, its input and its views."""
    return self.method.evaluated

  @property
  def examples(self) -> int:
    """The number of examples of the method."""
    return self.method.examples

  @property
  def step(self) -> Callable[..., Any] | None:
    """The method's own train step, or None."""
    return getattr(self.method, "step", None)

  def network(self, name: str) -> Encoder:
    """Returns a network of the method."""
    return self.method.network(name)

  def init(self, key: Array, batch: Batch) -> tuple[Params, State]:
    """Returns the parameters of the method, and its state with the state of the probe.

    Raises:
      UserError: the batch has no labels, or invalid ones.
    """
    if "label" not in batch:
      raise UserError(
        f"an online probe needs labels; the batch has {', '.join(sorted(batch))}: add the field 'label'"
      )
    self.probe.targets(batch["label"], len(batch["label"]))
    params, state = self.method.init(key, batch)
    features = jax.eval_shape(lambda: self._features(params, state, batch))
    return params, {**state, "online_probe": self.probe.init(features.shape[-1])}

  def objective(
    self, params: Params, state: State, batch: Batch, key: Array
  ) -> tuple[Array, tuple[State, Mapping[str, Array]]]:
    """Returns the value of the method, and the state and metrics of the method and the probe."""
    own = {name: part for name, part in state.items() if name != "online_probe"}
    features = self._features(jax.lax.stop_gradient(params), own, batch)
    probe, measured = self.probe.step(state["online_probe"], features, batch["label"])
    value, (own, metrics) = self.method.objective(params, own, batch, key)
    return value, ({**own, "online_probe": probe}, {**metrics, **measured})

  def advance(self, params: Params, state: State, step: Array) -> State:
    """Returns the state after the optimizer's step. It changes only the state of the method."""
    own = {name: part for name, part in state.items() if name != "online_probe"}
    own = self.method.advance(params, own, step)
    return {**own, "online_probe": state["online_probe"]}

  def _features(self, params: Params, state: State, batch: Batch) -> Array:
    network, input, _ = self.method.evaluated
    inputs = jax.tree.map(as_input, select(batch, input))
    outputs, _ = self.method.network(network).apply(
      params[network], state[network], inputs, key=None, train=False
    )
    return embedding_of(outputs)


def _standardized(features: Array) -> Array:
  """Subtracts the mean of each dimension and divides by its standard deviation.

  A nearly constant dimension stays near 0.
  """
  features = features.astype(jnp.promote_types(features.dtype, jnp.float32))
  variance = features.var(0)
  scale = jnp.sqrt(variance + 1e-6 * variance.max())
  return (features - features.mean(0)) / jnp.where(scale > 0, scale, 1)
