"""Terms with networks of their own, such as a decoder or a critic."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from typing_extensions import override

from contrastax import networks
from contrastax.core import Array, Metrics, Params, State, Term
from contrastax.networks import Net, Owner


class Measured(Owner, Term):
  """The base of terms with networks of their own. A subclass implements `measure`.

  `measure` applies the networks of the term by name, as `see` of a method does.

  `seen` contains the outputs of the method's networks, by name and view: `seen["encoder"][0]` is the
  embedding of view 0, `seen["view"][0]` is the view itself, and `seen["batch"]` is the batch. The
  gradient of the term also reaches the networks of the method. A term that calls `net.target` needs a
  field `momentum`.

  Example:
    >>> import dataclasses
    >>> import jax
    >>> from contrastax import encoders
    >>> from contrastax.core import Encoder
    >>> from contrastax.terms import Measured
    >>> @dataclasses.dataclass(frozen=True, kw_only=True)
    ... class Reconstruction(Measured):
    ...   decoder: Encoder
    ...   weight: float = 1.0
    ...   tag: str = "reconstruction"
    ...
    ...   def measure(self, net, seen):
    ...     x = seen["view"][0]
    ...     error = net("decoder", seen["encoder"][0]) - x.reshape(len(x), -1)
    ...     return (error**2).sum(1), {}
    >>> term = Reconstruction(decoder=encoders.projection((), 6))
    >>> x = jax.random.normal(jax.random.key(0), (4, 2, 3))
    >>> seen = {"view": {0: x}, "encoder": {0: x[:, 0]}, "step": 0}
    >>> params, state = term.init(jax.random.key(1), seen, examples=0)
    >>> value, state, metrics = term(params, state, seen, jax.random.key(2))
    >>> value.shape
    ()
  """

  def measure(self, net: Net, seen: Mapping[str, Any]) -> tuple[Array, Metrics]:
    """Computes the term.

    Args:
      net: applies the networks of the term by name.
      seen: the outputs of the method's networks.

    Returns:
      (value, metrics). The value is a scalar, or one value per example, which is averaged.
    """
    raise NotImplementedError

  @override
  def init(self, key: Array, seen: Mapping[str, Any], examples: int) -> tuple[Params, State]:
    net = Net(self, {}, {}, key, step=seen["step"], starting=True)
    self.measure(net, seen)
    return dict(net.params), dict(net.state)

  @override
  def __call__(
    self, params: Params, state: State, seen: Mapping[str, Any], key: Array
  ) -> tuple[Array, State, Metrics]:
    net = Net(self, params, state, key, step=seen["step"])
    value, metrics = self.measure(net, seen)
    return jnp.mean(value), dict(net.state), metrics

  @override
  def advance(self, params: Params, state: State, step: Array) -> State:
    return networks.advance(self, params, state, step)
