"""Optimizers with the field's usual schedule: linear warm-up, then a cosine to zero.

`rules` say what each parameter is: pairs of a regular expression, searched in its path
(`encoder/layers/0/kernel`), and `decay` or `no decay`, the first match counting. A
parameter that no rule matches is an error, never a guess.
"""

from __future__ import annotations

import functools
import re

import jax
import optax

from contrastax.core import UserError

Rules = tuple[tuple[str, str], ...]

RULES = (
  (r"(^|/)(kernel|score|score/first|score/second)$", "decay"),
  (r"(^|/)(bias|scale|log_scale)$", "no decay"),
  (r"(^|/)(cls_token|mask_token|pos_embed|tokens|embedding)$", "no decay"),
)


def sgd(
  *, steps: int, learning_rate: float, warmup: int = 0, momentum: float = 0.9,
  weight_decay: float = 0.0, rules: Rules = RULES, constant: str = "",
) -> optax.GradientTransformation:  # fmt: skip
  """SGD with momentum; weight decay is added to the gradient (as PyTorch's SGD).

  constant: a regular expression, searched in the parameters' paths; those it is found in keep
  `learning_rate` throughout, such as `^predictor/` in SimSiam (arXiv 2011.10566, §4.2).
  """
  schedule = _schedule(steps, learning_rate, warmup)
  step = optax.sgd(schedule, momentum)
  if constant:
    steady = optax.sgd(learning_rate, momentum)
    step = optax.partition({True: steady, False: step}, _found(constant))
  return optax.chain(optax.add_decayed_weights(weight_decay, _decays(rules)), step)


def adamw(
  *,
  steps: int,
  learning_rate: float,
  warmup: int = 0,
  weight_decay: float = 0.0,
  rules: Rules = RULES,
) -> optax.GradientTransformation:
  """AdamW (β 0.9 and 0.999, ε 1e-8); decay is decoupled and scaled by the learning rate."""
  schedule = _schedule(steps, learning_rate, warmup)
  return optax.adamw(schedule, weight_decay=weight_decay, mask=_decays(rules))


def lars(
  *, steps: int, learning_rate: float, warmup: int = 0, momentum: float = 0.9,
  weight_decay: float = 0.0, trust_coefficient: float = 1e-3, rules: Rules = RULES,
) -> optax.GradientTransformation:  # fmt: skip
  """LARS (You et al. 2017, arXiv 1708.03888): SGD with momentum and a learning rate per layer.

    g ← g + weight_decay w;   g ← g · trust_coefficient ‖w‖ / ‖g‖;   v ← momentum v + rate g;   w ← w − v

  with the exclusions of SimCLR: what does not decay (biases, BatchNorm's scales) is not adapted
  either, and gets SGD's step. Where ‖w‖ or ‖g‖ is 0 the factor is 1. The rate is inside the
  momentum, as in the paper and SimCLR's code; MoCo v3's and Barlow Twins' multiply by it afterwards,
  which differs while it changes.
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


def _schedule(steps, learning_rate, warmup):
  if steps < 1:
    raise UserError(f"steps must be at least 1, not {steps}")
  if not 0 <= warmup < steps:
    raise UserError(f"warmup must be at least 0 and below the run's {steps} steps, not {warmup}")
  if not learning_rate >= 0:
    raise UserError(f"learning_rate must be 0 or more, not {learning_rate}")
  start = 0.0 if warmup else learning_rate
  return optax.warmup_cosine_decay_schedule(start, learning_rate, warmup, steps)


def _decays(rules):
  """A mask for optax: params -> a tree of whether each decays; refuses what no rule matches."""
  for pattern, rule in rules:
    if rule not in ("decay", "no decay"):
      raise UserError(f"optimizer rule {pattern!r}: {rule!r} is neither 'decay' nor 'no decay'")

  def decays(path, _):
    name = _name(path)
    for pattern, rule in rules:
      if re.search(pattern, name):
        return rule == "decay"
    raise UserError(
      f"no optimizer rule matches the parameter {name}; "
      f"add one to rules, such as ({'(^|/)' + name.split('/')[-1] + '$'!r}, 'decay')"
    )

  return lambda params: jax.tree_util.tree_map_with_path(decays, params)


def _found(pattern):
  """params -> a tree of whether the pattern is found in each path; refuses one found in none."""

  def labels(params):
    found = jax.tree_util.tree_map_with_path(
      lambda path, _: bool(re.search(pattern, _name(path))), params
    )
    if not any(jax.tree.leaves(found)):
      raise UserError(
        f"constant={pattern!r} is found in no parameter's path, such as encoder/kernel"
      )
    return found

  return labels


_name = functools.partial(jax.tree_util.keystr, simple=True, separator="/")
