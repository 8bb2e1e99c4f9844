"""Optimizers with the usual learning-rate schedule: a linear warm-up, then a cosine decay to 0.

`rules` determine which parameters have weight decay. A rule is a pair of a regular expression and
`decay` or `no decay`. The expression is searched in the path of a parameter, such as
`encoder/layers/0/kernel`. The first rule that matches is applied. A parameter that no rule matches
raises an error.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any

import jax
import optax

from contrastax.core import UserError

Rules = tuple[tuple[str, str], ...]
"""Pairs of a regular expression and `decay` or `no decay`."""

RULES = (
  (r"(^|/)(kernel|score|score/first|score/second)$", "decay"),
  (r"(^|/)(bias|scale|log_scale)$", "no decay"),
  (r"(^|/)(cls_token|mask_token|pos_embed|tokens|embedding)$", "no decay"),
)
"""The default rules: the weights of layers decay, biases and scales do not."""


def sgd(
  *, steps: int, learning_rate: float, warmup: int = 0, momentum: float = 0.9,
  weight_decay: float = 0.0, rules: Rules = RULES, constant: str = "",
) -> optax.GradientTransformation:  # fmt: skip
  """SGD with momentum.

      g ← g + weight_decay w;   v ← momentum v + g;   w ← w − rate v

  Args:
    steps: number of steps of the run, over which the learning rate falls to 0.
    learning_rate: the largest learning rate.
    warmup: number of steps in which the learning rate rises from 0.
    momentum: factor of the momentum.
    weight_decay: factor of the weights that is added to the gradient, as in PyTorch's SGD.
    rules: which parameters have weight decay.
    constant: regular expression, such as `^predictor/` in SimSiam. Parameters whose paths match
      keep `learning_rate` in all steps. "" matches none.

  Returns:
    An optax optimizer.

  Raises:
    UserError: an argument is out of range. `init` raises it if no rule matches a parameter, or
      no parameter matches `constant`.

  Example:
    >>> import jax.numpy as jnp
    >>> from contrastax.training import optimizers
    >>> optimizer = optimizers.sgd(steps=10, learning_rate=0.1, momentum=0.0)
    >>> params = {"kernel": jnp.ones(2)}
    >>> updates, _ = optimizer.update(params, optimizer.init(params), params)
    >>> print(updates["kernel"])
    [-0.1 -0.1]

  References:
    Chen and He, SimSiam, 2020, arXiv 2011.10566, section 4.2, on `constant`.
  """
  schedule = _schedule(steps, learning_rate, warmup)
  step = optax.sgd(schedule, momentum)
  if constant:
    steady = optax.sgd(learning_rate, momentum)
    step = optax.partition({True: steady, False: step}, _matches(constant))
  return optax.chain(optax.add_decayed_weights(weight_decay, _decays(rules)), step)


def adamw(
  *,
  steps: int,
  learning_rate: float,
  warmup: int = 0,
  weight_decay: float = 0.0,
  rules: Rules = RULES,
) -> optax.GradientTransformation:
  """AdamW with β = (0.9, 0.999) and ε = 1e-8.

  Args:
    steps: number of steps of the run, over which the learning rate falls to 0.
    learning_rate: the largest learning rate.
    warmup: number of steps in which the learning rate rises from 0.
    weight_decay: factor of the weights that is subtracted, scaled by the learning rate.
    rules: which parameters have weight decay.

  Returns:
    An optax optimizer.

  Raises:
    UserError: an argument is out of range. `init` raises it if no rule matches a parameter.

  Example:
    >>> import jax.numpy as jnp
    >>> from contrastax.training import optimizers
    >>> optimizer = optimizers.adamw(steps=10, learning_rate=0.1)
    >>> params = {"kernel": jnp.ones(2)}
    >>> updates, _ = optimizer.update(params, optimizer.init(params), params)
    >>> print(updates["kernel"].round(3))
    [-0.1 -0.1]

  References:
    Loshchilov and Hutter, AdamW, 2017, arXiv 1711.05101.
  """
  schedule = _schedule(steps, learning_rate, warmup)
  return optax.adamw(schedule, weight_decay=weight_decay, mask=_decays(rules))


def lars(
  *, steps: int, learning_rate: float, warmup: int = 0, momentum: float = 0.9,
  weight_decay: float = 0.0, trust_coefficient: float = 1e-3, rules: Rules = RULES,
) -> optax.GradientTransformation:  # fmt: skip
  """LARS: SGD with momentum and a separate learning rate for each parameter array.

      g ← g + weight_decay w;   g ← g · trust_coefficient ‖w‖ / ‖g‖
      v ← momentum v + rate g;   w ← w − v

  If ‖w‖ or ‖g‖ is 0, the factor trust_coefficient ‖w‖ / ‖g‖ is replaced by 1. As in SimCLR, it is
  also 1 for parameters without weight decay (biases and the scales of BatchNorm), so their step is
  that of SGD.

  Args:
    steps: number of steps of the run, over which the learning rate falls to 0.
    learning_rate: the largest learning rate.
    warmup: number of steps in which the learning rate rises from 0.
    momentum: factor of the momentum.
    weight_decay: factor of the weights that is added to the gradient.
    trust_coefficient: factor of the ratio of the norms.
    rules: which parameters have weight decay and the factor of the norms.

  Returns:
    An optax optimizer.

  Raises:
    UserError: an argument is out of range. `init` raises it if no rule matches a parameter.

  References:
    You et al., LARS, 2017, arXiv 1708.03888.

  In other libraries:
    The learning rate is part of the momentum, as in the paper and in the code of SimCLR. The code
    of MoCo v3 and Barlow Twins multiplies the momentum by it, which differs if the rate changes.
  """
  decays = _decays(rules)
  return optax.lars(
    _schedule(steps, learning_rate, warmup),
    weight_decay,
    weight_decay_mask=decays,
    trust_coefficient=trust_coefficient,
    trust_ratio_mask=decays,
    momentum=momentum,
  )


def _schedule(steps: int, learning_rate: float, warmup: int) -> optax.Schedule:
  if steps < 1:
    raise UserError(f"steps must be at least 1, not {steps}")
  if not 0 <= warmup < steps:
    raise UserError(f"warmup must be at least 0 and below the run's {steps} steps, not {warmup}")
  if not learning_rate >= 0:
    raise UserError(f"learning_rate must be 0 or more, not {learning_rate}")
  start = 0.0 if warmup else learning_rate
  return optax.warmup_cosine_decay_schedule(start, learning_rate, warmup, steps)


def _decays(rules: Rules) -> Callable[[Any], Any]:
  """Returns a mask for optax: a function from parameters to a tree of booleans, true for decay."""
  for pattern, rule in rules:
    if rule not in ("decay", "no decay"):
      raise UserError(f"optimizer rule {pattern!r}: {rule!r} is neither 'decay' nor 'no decay'")

  def decays(path: tuple[Any, ...], _: Any) -> bool:
    name = _name(path)
    for pattern, rule in rules:
      if re.search(pattern, name):
        return rule == "decay"
    raise UserError(
      f"no optimizer rule matches the parameter {name}; "
      f"add one to rules, such as ({'(^|/)' + name.split('/')[-1] + '$'!r}, 'decay')"
    )

  return lambda params: jax.tree_util.tree_map_with_path(decays, params)


def _matches(pattern: str) -> Callable[[Any], Any]:
  """Returns a function from parameters to a tree of booleans, true if the pattern matches."""

  def labels(params: Any) -> Any:
    matches = jax.tree_util.tree_map_with_path(
      lambda path, _: bool(re.search(pattern, _name(path))), params
    )
    if not any(jax.tree.leaves(matches)):
      raise UserError(
        f"constant={pattern!r} matches no parameter; paths have the form encoder/layers/0/kernel"
      )
    return matches

  return labels


_name = functools.partial(jax.tree_util.keystr, simple=True, separator="/")
