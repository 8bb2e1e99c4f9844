"""Optimisers with the field's usual schedule: linear warm-up, then a cosine to zero.

`rules` say what each parameter is: pairs of a regular expression, searched in its path
(`encoder/layers/0/kernel`), and `decay` or `no decay`, the first match counting. A
parameter that no rule matches is an error, never a guess.
"""

from __future__ import annotations

import re

import jax
import optax

from contrastax.core import UserError

RULES = ((r"(^|/)kernel$", "decay"), (r"(^|/)(bias|scale)$", "no decay"))


def sgd(
  *, steps: int, learning_rate: float, warmup: int = 0, momentum: float = 0.9,
  weight_decay: float = 0.0, rules=RULES,
) -> optax.GradientTransformation:  # fmt: skip
  """SGD with momentum; weight decay is added to the gradient (as PyTorch's SGD)."""
  return optax.chain(
    _covered(rules),
    optax.add_decayed_weights(weight_decay, lambda params: _decays(params, rules)),
    optax.sgd(_schedule(steps, learning_rate, warmup), momentum),
  )


def adamw(
  *, steps: int, learning_rate: float, warmup: int = 0, weight_decay: float = 0.0, rules=RULES
) -> optax.GradientTransformation:
  """AdamW (β 0.9 and 0.999, ε 1e-8); decay is decoupled and scaled by the learning rate."""
  return optax.chain(
    _covered(rules),
    optax.adamw(
      _schedule(steps, learning_rate, warmup),
      weight_decay=weight_decay,
      mask=lambda params: _decays(params, rules),
    ),
  )


def _schedule(steps, learning_rate, warmup):
  if steps < 1:
    raise UserError(f"steps must be at least 1, not {steps}")
  if not 0 <= warmup < steps:
    raise UserError(f"warmup must be at least 0 and below the run's {steps} steps, not {warmup}")
  return optax.warmup_cosine_decay_schedule(
    0.0 if warmup else learning_rate, learning_rate, warmup, steps
  )


def _covered(rules):
  """Passes gradients on; refuses at `init` parameters that no rule matches."""

  def init(params):
    _decays(params, rules)
    return optax.EmptyState()

  return optax.GradientTransformation(init, lambda updates, state, params=None: (updates, state))


def _decays(params, rules):
  def decays(path, _):
    name = "/".join(str(getattr(entry, "key", getattr(entry, "idx", entry))) for entry in path)
    for pattern, rule in rules:
      if re.search(pattern, name):
        if rule not in ("decay", "no decay"):
          raise UserError(f"optimizer rule {pattern!r}: {rule!r} is neither 'decay' nor 'no decay'")
        return rule == "decay"
    raise UserError(
      f"no optimizer rule matches the parameter {name}; "
      f"add one to rules, such as ({'(^|/)' + name.split('/')[-1] + '$'!r}, 'decay')"
    )

  return jax.tree_util.tree_map_with_path(decays, params)
