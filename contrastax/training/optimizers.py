"""Optimizers with the usual learning-rate schedule: a linear warm-up, then a cosine decay to 0.

`rules` determine which parameters have weight decay. A rule is a pair of a regular expression and
`decay` or `no decay`. The expression is searched in the path of a parameter, such as
`encoder/layers/0/kernel`. The first rule that matches is applied. A parameter that no rule matches
raises an error.

All optimizers take `clip`, the largest global norm of the gradient, and `layer_decay`, the factor of
the learning rate from each layer of the encoder to the layer before it, as in BEiT and MAE.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import jax
import optax
from optax import contrib

from contrastax.core import Schedule, UserError
from contrastax.training.transforms import (
  add_decayed_weights,
  on_matrices,
  path_name,
  scale_by_layer,
)

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
  weight_decay: float | Schedule = 0.0, rules: Rules = RULES, constant: str = "",
  clip: float | None = None, layer_decay: float | None = None,
) -> optax.GradientTransformation:  # fmt: skip
  """SGD with momentum.

      g ← g + weight_decay w;   v ← momentum v + g;   w ← w − rate v

  Args:
    steps: number of steps of the run, over which the learning rate falls to 0.
    learning_rate: the largest learning rate.
    warmup: number of steps in which the learning rate rises from 0.
    momentum: factor of the momentum.
    weight_decay: factor of the weights that is added to the gradient, as in PyTorch's SGD, or its
      schedule.
    rules: which parameters have weight decay.
    constant: regular expression, such as `^predictor/` in SimSiam. Parameters whose paths match
      keep `learning_rate` in all steps. "" matches none.
    clip: largest global norm of the gradient. A gradient with a larger norm is scaled to it. None
      means no clipping. The metric `gradient_norm` is the norm before the clipping.
    layer_decay: factor of the learning rate from each layer of the encoder to the layer before it:
      layer l of L has decay^(L − l) times the rate. Layer 0 is the stem of a `resnet`, or what
      precedes the blocks of a `vit` or a `text`. Layer i is stage or block i. All other networks
      have the whole rate. None means one rate.

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
  step = optax.chain(add_decayed_weights(weight_decay, _decays(rules)), step)
  return _with_options(step, clip, layer_decay)


def adamw(
  *,
  steps: int,
  learning_rate: float,
  warmup: int = 0,
  weight_decay: float | Schedule = 0.0,
  rules: Rules = RULES,
  clip: float | None = None,
  layer_decay: float | None = None,
) -> optax.GradientTransformation:
  """AdamW with β = (0.9, 0.999) and ε = 1e-8.

  Args:
    steps: number of steps of the run, over which the learning rate falls to 0.
    learning_rate: the largest learning rate.
    warmup: number of steps in which the learning rate rises from 0.
    weight_decay: factor of the weights that is subtracted, scaled by the learning rate, or its
      schedule. DINO raises it along a cosine: `schedules.cosine(start=0.04, end=0.4, steps=steps)`.
    rules: which parameters have weight decay.
    clip: see `sgd`.
    layer_decay: see `sgd`.

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
  step = _adamw(_schedule(steps, learning_rate, warmup), weight_decay, rules)
  return _with_options(step, clip, layer_decay)


def lars(
  *, steps: int, learning_rate: float, warmup: int = 0, momentum: float = 0.9,
  weight_decay: float | Schedule = 0.0, trust_coefficient: float = 1e-3, rules: Rules = RULES,
  clip: float | None = None, layer_decay: float | None = None,
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
    weight_decay: factor of the weights that is added to the gradient, or its schedule.
    trust_coefficient: factor of the ratio of the norms.
    rules: which parameters have weight decay and the factor of the norms.
    clip: see `sgd`.
    layer_decay: see `sgd`.

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
  step = optax.chain(
    add_decayed_weights(weight_decay, decays),
    optax.masked(optax.scale_by_trust_ratio(trust_coefficient=trust_coefficient), decays),
    optax.scale_by_learning_rate(_schedule(steps, learning_rate, warmup)),
    optax.trace(momentum),
  )
  return _with_options(step, clip, layer_decay)


def lamb(
  *,
  steps: int,
  learning_rate: float,
  warmup: int = 0,
  weight_decay: float | Schedule = 0.0,
  rules: Rules = RULES,
  clip: float | None = None,
  layer_decay: float | None = None,
) -> optax.GradientTransformation:
  """LAMB: Adam with a separate learning rate for each parameter array.

      u = m̂ / (√v̂ + 1e-6) + weight_decay w;   w ← w − rate · u ‖w‖ / ‖u‖

  m̂ and v̂ are Adam's averages of the gradient and of its square, with β = (0.9, 0.999). If ‖w‖ or ‖u‖
  is 0, the factor ‖w‖ / ‖u‖ is replaced by 1. It is also 1 for parameters without weight decay
  (biases and scales), as in `lars`.

  Args:
    steps: number of steps of the run, over which the learning rate falls to 0.
    learning_rate: the largest learning rate.
    warmup: number of steps in which the learning rate rises from 0.
    weight_decay: factor of the weights that is added to Adam's direction, or its schedule.
    rules: which parameters have weight decay and the factor of the norms.
    clip: see `sgd`.
    layer_decay: see `sgd`.

  Returns:
    An optax optimizer.

  Raises:
    UserError: an argument is out of range. `init` raises it if no rule matches a parameter.

  References:
    You et al., LAMB, 2019, arXiv 1904.00962.

  In other libraries:
    `optax.lamb` applies the factor of the norms to all parameters.
  """
  decays = _decays(rules)
  step = optax.chain(
    optax.scale_by_adam(eps=1e-6),
    add_decayed_weights(weight_decay, decays),
    optax.masked(optax.scale_by_trust_ratio(), decays),
    optax.scale_by_learning_rate(_schedule(steps, learning_rate, warmup)),
  )
  return _with_options(step, clip, layer_decay)


def muon(
  *, steps: int, learning_rate: float, adamw_learning_rate: float, warmup: int = 0,
  momentum: float = 0.95, weight_decay: float | Schedule = 0.0, rules: Rules = RULES,
  clip: float | None = None, layer_decay: float | None = None,
) -> optax.GradientTransformation:  # fmt: skip
  """Muon for the kernels of layers, and AdamW for all other parameters.

  The update of a matrix [in, out] is Nesterov's momentum of its gradient with all singular values
  replaced by about 1, times √max(1, out / in). The kernel [h, w, in, out] of a convolution is the
  matrix [h w in, out].

  Muon updates the parameters with two or more axes that decay by the rules: the kernels. Biases,
  scales, tokens and position embeddings have AdamW.

  Args:
    steps: number of steps of the run, over which the learning rates fall to 0.
    learning_rate: the largest learning rate of Muon, such as 0.02.
    adamw_learning_rate: the largest learning rate of AdamW, such as 1e-3.
    warmup: number of steps in which the learning rates rise from 0.
    momentum: factor of the momentum.
    weight_decay: factor of the weights that is subtracted, scaled by the learning rate, or its
      schedule.
    rules: which parameters have weight decay.
    clip: see `sgd`.
    layer_decay: see `sgd`.

  Returns:
    An optax optimizer.

  Raises:
    UserError: an argument is out of range. `init` raises it if no rule matches a parameter.

  References:
    Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024,
    https://kellerjordan.github.io/posts/muon.
  """
  # optax scales the update only in `muon`, so `muon` computes it with the learning rate −1.
  orthogonal = on_matrices(contrib.muon(-1.0, beta=momentum))
  kernels = optax.chain(
    orthogonal,
    add_decayed_weights(weight_decay, _decays(rules)),
    optax.scale_by_learning_rate(_schedule(steps, learning_rate, warmup)),
  )
  others = _adamw(_schedule(steps, adamw_learning_rate, warmup), weight_decay, rules)
  step = optax.partition({True: kernels, False: others}, _kernels(rules))
  return _with_options(step, clip, layer_decay)


def _adamw(
  schedule: optax.Schedule, weight_decay: float | Schedule, rules: Rules
) -> optax.GradientTransformation:
  return optax.chain(
    optax.scale_by_adam(),
    add_decayed_weights(weight_decay, _decays(rules)),
    optax.scale_by_learning_rate(schedule),
  )


def _with_options(
  step: optax.GradientTransformation, clip: float | None, layer_decay: float | None
) -> optax.GradientTransformation:
  """Adds clipping and layer-wise learning rates. Without them the optimizer is returned as it is."""
  parts = [step]
  if clip is not None:
    if not 0 < clip < float("inf"):
      raise UserError(f"clip must be above 0 and finite, not {clip}; None means no clipping")
    parts = [optax.clip_by_global_norm(clip), *parts]
  if layer_decay is not None:
    parts = [*parts, scale_by_layer(layer_decay)]
  return optax.chain(*parts) if len(parts) > 1 else step


def _schedule(steps: int, learning_rate: float, warmup: int) -> optax.Schedule:
  if steps < 1:
    raise UserError(f"steps must be at least 1, not {steps}")
  if not 0 <= warmup < steps:
    raise UserError(
      f"warmup must be at least 0 and below the run's {steps} steps, not {warmup}; lower warmup, or "
      "raise steps"
    )
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
    name = path_name(path)
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
      lambda path, _: bool(re.search(pattern, path_name(path))), params
    )
    if not any(jax.tree.leaves(matches)):
      raise UserError(
        f"constant={pattern!r} matches no parameter; paths have the form encoder/layers/0/kernel"
      )
    return matches

  return labels


def _kernels(rules: Rules) -> Callable[[Any], Any]:
  """Returns a function from parameters to a tree of booleans, true for kernels that decay."""
  decays = _decays(rules)
  return lambda params: jax.tree.map(lambda p, d: d and p.ndim > 1, params, decays(params))
