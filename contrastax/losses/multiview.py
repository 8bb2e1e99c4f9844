"""Losses of any number of views of each example.

`views` is [v, n, d]; views[a, i] is example i's view a. All normalize: s is the cosine.
Temperatures τ > 0 are scalars. What is said of `plan` in `losses.softmax` holds here.
"""

from __future__ import annotations

import dataclasses
import itertools
from typing import Literal, get_args

import jax
import jax.numpy as jnp

from contrastax.core import Group, UserError
from contrastax.criteria.softmax_core import attach, difference
from contrastax.losses.arrays import of_index, precision, vectors, views_of
from contrastax.pairwise import Plan, cosine, log_sum_exp, reduce, softmax_mean, unit
from contrastax.pairwise.inputs import check_numbers, check_positive

Aggregate = Literal["geometric", "arithmetic", "sufficient statistics"]


def dhel(z1, z2, *, temperature, plan=Plan()):
  """DHEL, decoupled hyperspherical energy loss: each view is spread among its own kind.

    L_i = −s(z_i, z'_i)/τ + log Σ_{j ≠ i} exp(s(z_i, z_j)/τ) + log Σ_{j ≠ i} exp(s(z'_i, z'_j)/τ)

  Args:
    z1, z2: z, z', [n, d], the two views; row i of both is the same example.
    temperature: τ.

  Returns:
    [n], unbounded below. With n = 1 there is no negative: 0.

  Koromilas et al. 2024, arXiv 2405.18045, eq. 7; the authors' code can leave out the last term.
  """
  z1, z2 = vectors(z1=z1, z2=z2)
  check_positive("a temperature", temperature)
  pull = (unit(z1) * unit(z2)).sum(1) / temperature
  energy = _energy(z1, temperature, plan) + _energy(z2, temperature, plan)
  return difference(energy != -jnp.inf, energy, pull)


def mv_dhel(views, *, temperature, plan=Plan()):
  """MV-DHEL: all pairs of views attract in one term, each view is spread among its own kind.

    L_i = −log Σ_{a < b} exp(s_i^{ab}/τ) + Σ_a log Σ_{j ≠ i} exp(s(z_ia, z_ja)/τ)

  s_i^{ab} = s(z_ia, z_ib). Two views: `dhel`.

  Args:
    views: [v, n, d], v ≥ 2.
    temperature: τ.

  Returns:
    [n], unbounded below. With n = 1 there is no negative: 0.

  Koromilas et al. 2025, arXiv 2507.06979. The authors' code multiplies the sums, which
  overflows in float32 at τ = 0.02 and in the mean of `v` views sooner; here logarithms are added.
  """
  views = views_of(views=views)
  check_positive("a temperature", temperature)
  attraction = jax.nn.logsumexp(jnp.stack(list(_of_pairs(views, temperature))), 0)
  energy = sum(_energy(view, temperature, plan) for view in views)
  return difference(energy != -jnp.inf, energy, attraction)


def mv_info_nce(views, *, temperature, plan=Plan()):
  """MV-InfoNCE: all pairs of views attract in one term, and all vectors are candidates of all.

    L_i = −log( Σ_{a ≠ b} exp(s_i^{ab}/τ) / Σ_a Σ_{(j, b) ≠ (i, a)} exp(s(z_ia, z_jb)/τ) )

  Args:
    views: [v, n, d], v ≥ 2.
    temperature: τ.

  Returns:
    [n]. With n = 1 there is no negative: 0.

  Koromilas et al. 2025, arXiv 2507.06979, as the authors' code has it: candidates of the
  anchor's own view are negatives too. At two views it is not NT-Xent: both anchors share one
  denominator.
  """
  views = views_of(views=views)
  check_positive("a temperature", temperature)
  v, n, _ = views.shape
  everything = _all_views(views, temperature)
  # Both from one product: half precision would round the parts of a positive's gradient apart.
  rows = {"others": log_sum_exp, "positive": log_sum_exp}
  r = reduce(
    _OthersAndPositives(), everything, (everything,), score=cosine(), reductions=rows, same_set=True,
    plan=plan,
  )  # fmt: skip
  others, attraction = (jax.nn.logsumexp(r[name].reshape(v, n), 0) for name in rows)
  return difference(jnp.full(n, n > 1), others, attraction)


def poly_view(views, *, temperature, aggregate: Aggregate = "geometric", plan=Plan()):
  """Poly-view contrastive loss: every view meets the other views of its example.

    p_iab = exp(s_i^{ab}/τ) / (exp(s_i^{ab}/τ) + Σ_{j ≠ i} Σ_c exp(s(z_ia, z_jc)/τ))

    geometric               L_ia = −1/(v−1) Σ_{b ≠ a} log p_iab
    arithmetic              L_ia = −log 1/(v−1) Σ_{b ≠ a} p_iab
    sufficient statistics   L_ia = −log p of z_ia and the mean of the unit vectors of the others

  Two views: `nt_xent`, all three.

  Args:
    views: [v, n, d], v ≥ 2.
    temperature: τ.
    aggregate: how the other views are put together.

  Returns:
    [v·n], view 0's anchors first. With n = 1 there is no negative: 0.

  Shidani et al. 2024, arXiv 2403.05490; no code of the authors is public. The mean of the
  other views is normalized again, and meets the same negatives: our reading. A public
  "arithmetic" takes the logarithm of the batch's means with the wrong sign.
  """
  views = views_of(views=views)
  if aggregate not in get_args(Aggregate):
    raise UserError(f"aggregate is one of {', '.join(get_args(Aggregate))}, not {aggregate!r}")
  v, n, _ = views.shape
  everything = _all_views(views, temperature)
  r = reduce(
    _Others("index"), everything, (everything,), score=cosine(), reductions={"others": log_sum_exp},
    same_set=True, plan=plan,
  )  # fmt: skip
  negatives = r["others"].reshape(v, n)
  u = unit(views)
  if aggregate == "sufficient statistics":
    rest = unit(u.sum(0) - u)
    losses = jax.nn.softplus(negatives - (u * rest).sum(-1) / temperature)
    return losses.reshape(-1)
  positives = jnp.einsum("and,bnd->abn", u, u) / temperature
  losses = jax.nn.softplus(negatives[:, None] - positives)
  others = ~jnp.eye(v, dtype=bool)[:, :, None]
  if aggregate == "geometric":
    losses = jnp.where(others, losses, 0).sum(1) / (v - 1)
  else:
    losses = jnp.log(v - 1.0) - jax.nn.logsumexp(jnp.where(others, -losses, -jnp.inf), 1)
  return losses.reshape(-1)


def cacr(views, *, t_plus=1.0, t_minus=2.0, detach_weights=False, plan=Plan()):
  """Contrastive attraction and repulsion: far positives pull more, near negatives push more.

    L_i = mean_a Σ_{b ≠ a} π⁺_iab c(z_ia, z_ib) − mean_{a < b} Σ_{j ≠ i} π⁻_ijab c(z_ia, z_jb)
    π⁺_iab = softmax_b(t⁺ c(z_ia, z_ib)),  π⁻_ijab = softmax_j(−t⁻ c(z_ia, z_jb)),  c = ‖ẑ − ẑ'‖²

  Args:
    views: [v, n, d], v ≥ 2; with two views the attraction is plain.
    t_plus, t_minus: t⁺, t⁻ ≥ 0, which multiply the cost: inverse temperatures. The authors
      take t⁻ = 0.9 for CIFAR-10 and 2 for CIFAR-100.
    detach_weights: no gradient through π, as in the authors' ImageNet code, and not in their
      others.

  Returns:
    [n]. With n = 1 nothing is repelled.

  Zheng et al. 2023, arXiv 2105.03746, eqs. 4 to 6. Of two views the earlier is the query of
  the repulsion, as in the authors' code.
  """
  views = views_of(views=views)
  v, n, _ = views.shape
  check_numbers(t_plus=t_plus, t_minus=t_minus)
  stop = jax.lax.stop_gradient if detach_weights else lambda weights: weights
  u = unit(views)
  costs = ((u[:, None] - u[None]) ** 2).sum(-1)
  others = ~jnp.eye(v, dtype=bool)[:, :, None]
  weights = stop(jax.nn.softmax(jnp.where(others, t_plus * costs, -jnp.inf), 1))
  attraction = (weights * costs).sum(1).mean(0)
  repulsion = 0.0
  for a, b in itertools.combinations(views, 2):
    side = {"index": of_index(a)}
    r = reduce(
      _Repulsion(detach_weights), Group(a, side), (Group(b, side),), score=cosine(), plan=plan,
      shared=jnp.asarray(t_minus, precision(a)), reductions={"cost": softmax_mean},
    )  # fmt: skip
    repulsion += r["cost"][1]
  return attraction - repulsion / (v * (v - 1) / 2)


@dataclasses.dataclass(frozen=True)
class _Repulsion:
  detach: bool

  def __call__(self, similarity, a, c, t_minus):
    cost = 2 - 2 * similarity
    exponent = -t_minus * (jax.lax.stop_gradient(cost) if self.detach else cost)
    return {"cost": (jnp.where(a["index"] == c["index"], -jnp.inf, exponent), cost)}


@dataclasses.dataclass(frozen=True)
class _Others:
  """The logits of all that differ in `by`."""

  by: str

  def __call__(self, similarity, a, c, shared):
    same = a[self.by] == c[self.by]
    return {"others": jnp.where(same, -jnp.inf, similarity / a["temperature"])}


@dataclasses.dataclass(frozen=True)
class _OthersAndPositives:
  """The logits of all other vectors, and of the other views of the anchor's example."""

  def __call__(self, similarity, a, c, shared):
    logit = similarity / a["temperature"]
    itself, example = a["place"] == c["place"], a["index"] == c["index"]
    return {
      "others": jnp.where(itself, -jnp.inf, logit),
      "positive": jnp.where(example & ~itself, logit, -jnp.inf),
    }


def _energy(z, temperature, plan):
  """log Σ_{j ≠ i} exp(s(z_i, z_j)/τ), [n]."""
  group = attach(Group(z, {"place": of_index(z)}), temperature)
  return reduce(
    _Others("place"), group, (group,), score=cosine(), reductions={"others": log_sum_exp},
    same_set=True, plan=plan,
  )["others"]  # fmt: skip


def _all_views(views, temperature):
  v, n, d = views.shape
  side = {"place": jnp.arange(v * n), "index": jnp.tile(jnp.arange(n), v)}
  return attach(Group(views.reshape(v * n, d), side), temperature)


def _of_pairs(views, temperature):
  """s_i^{ab}/τ, [n], of each pair of views."""
  for a, b in itertools.combinations(unit(views), 2):
    yield (a * b).sum(-1) / temperature
