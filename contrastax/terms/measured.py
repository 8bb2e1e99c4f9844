"""Terms with networks of their own: a decoder, a predictor, a critic."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp

from contrastax import networks
from contrastax.core import Array, Term
from contrastax.networks import Net, Owner


class Measured(Owner, Term):
  """The base of terms with networks of their own. A subclass writes one body, `measure`.

  `measure` applies the term's fields by name, as `see` of a method does:

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Reconstruction(Measured):
      decoder: Encoder
      weight: float = 1.0
      tag: str = "reconstruction"

      def measure(self, net, seen):
        x = seen["view"][0]
        return ((net("decoder", seen["encoder"][0]) - x.reshape(len(x), -1)) ** 2).sum(1), {}

  `seen` holds what the method's networks returned, by name and view: `seen["encoder"][0]` is the
  embedding of view 0, `seen["view"][0]` the view itself, `seen["batch"]` the batch. The gradient of
  the term reaches the method's networks too. A term that calls `net.target` has a field `momentum`.
  """

  def measure(self, net: Net, seen: Mapping[str, Any]) -> tuple[Array, Mapping[str, Array]]:
    """(value, metrics); the value is a scalar, or one per example, of which the mean is taken."""
    raise NotImplementedError

  def init(self, key, seen, examples):
    net = Net(self, {}, {}, key, step=seen["step"], starting=True)
    self.measure(net, seen)
    return dict(net.params), dict(net.state)

  def __call__(self, params, state, seen, key):
    net = Net(self, params, state, key, step=seen["step"])
    value, metrics = self.measure(net, seen)
    return jnp.mean(value), dict(net.state), metrics

  def advance(self, params, state, step):
    return networks.advance(self, params, state, step)
