"""An online probe: a linear classifier trained beside the encoder, to watch a run by.

It sees features without their gradient, so the encoder is trained as if it were not there.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax

from contrastax.core import UserError
from contrastax.views.images import as_input


@dataclasses.dataclass(frozen=True)
class online_probe:
  """A linear classifier of `classes` classes, one step of Adam per batch.

  Features are standardised by their batch, so that one `learning_rate` serves features of
  any scale, which change while the encoder learns. Pure: the state is a tree of arrays.
  """

  classes: int
  learning_rate: float = 3e-3

  def init(self, d: int):
    """The state of a probe of features [n, d]; it says that all classes are equally likely."""
    params = {"kernel": jnp.zeros((d, self.classes)), "bias": jnp.zeros(self.classes)}
    return {"params": params, "optimizer": self._optimizer.init(params)}

  def step(self, state, features, label):
    """(the next state, metrics) from features [n, d] and label [n], int.

    Metrics: `online_accuracy`, of this batch before the step, so of examples whose label
    it is yet to be told (in the first epoch; later it has seen them).
    """
    features = _standardised(jax.lax.stop_gradient(features))
    label = jax.lax.stop_gradient(label)

    def objective(params):
      logits = features @ params["kernel"] + params["bias"]
      loss = optax.softmax_cross_entropy_with_integer_labels(logits, label).mean()
      return loss, (logits.argmax(1) == label).mean(dtype=features.dtype)

    grads, accuracy = jax.grad(objective, has_aux=True)(state["params"])
    updates, optimizer = self._optimizer.update(grads, state["optimizer"], state["params"])
    params = optax.apply_updates(state["params"], updates)
    return {"params": params, "optimizer": optimizer}, {"online_accuracy": accuracy}

  @property
  def _optimizer(self):
    return optax.adam(self.learning_rate)


@dataclasses.dataclass(frozen=True)
class watched:
  """A method whose encoder an online probe watches: trained exactly as the method alone is.

  method: any with an `encoder` and an entry of that name in its parameters and state.
  The features are those of the images as they are, in evaluation mode: what is
  evaluated in the end. That costs a forward pass of the batch, beside two forward and
  backward. The parameters are the method's; its state gets an entry `online_probe`, and its
  metrics `online_accuracy`.
  """

  method: Any
  probe: online_probe

  def init(self, key, batch):
    if "label" not in batch:
      raise UserError(f"an online probe needs labels; the batch has {', '.join(sorted(batch))}")
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
    images = as_input(batch["image"])
    return self.method.encoder.apply(
      params["encoder"], state["encoder"], images, key=None, train=False
    )[0]


def _standardised(features):
  """Each dimension less its mean, by its deviation; one that hardly moves stays near 0."""
  features = features.astype(jnp.promote_types(features.dtype, jnp.float32))
  variance = features.var(0)
  scale = jnp.sqrt(variance + 1e-6 * variance.max())
  return (features - features.mean(0)) / jnp.where(scale > 0, scale, 1)
