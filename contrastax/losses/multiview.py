"""Losses for any number of views of each example.

`views` is an array [v, n, d], and `views[a, i]` is view a of example i. The losses normalize the
vectors, and s is the cosine similarity. Temperatures are scalars τ > 0.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Iterator
from typing import Literal, get_args

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from contrastax.core import Array, Group, UserError
from contrastax.criteria.softmax_core import attach_temperature, difference
from contrastax.losses.arrays import check_vectors, check_views, compute_dtype, row_index
from contrastax.pairwise import Plan, cosine, log_sum_exp, reduce, softmax_mean, unit
from contrastax.pairwise.inputs import check_numbers, check_positive

Aggregate = Literal["geometric", "arithmetic", "sufficient statistics"]


def dhel(z1: ArrayLike, z2: ArrayLike, *, temperature: ArrayLike, plan: Plan = Plan()) -> Array:
  """DHEL: decoupled hyperspherical energy loss, with negatives of the same view only.

      L_i = −s(z_i, z'_i)/τ + log Σ_{j ≠ i} exp(s(z_i, z_j)/τ) + log Σ_{j ≠ i} exp(s(z'_i, z'_j)/τ)

  Args:
    z1: vectors z of the first view, [n, d].
    z2: vectors z' of the second view, [n, d]. Row i of z1 and z2 belongs to the same example.
    temperature: temperature τ > 0.
    plan: how the pairs are evaluated. It does not change the result.

  Returns:
    The loss of each example, [n]. It has no lower bound. With n = 1 there are no negatives and the
    loss is 0.

  Example:
    >>> import jax
    >>> from contrastax import losses
    >>> z1, z2 = jax.random.normal(jax.random.key(0), (2, 8, 4))
    >>> losses.dhel(z1, z2, temperature=0.1).shape
    (8,)

  References:
    Koromilas et al., "Bridging Mini-Batch and Asymptotic Analysis in Contrastive Learning", 2024,
    arXiv 2405.18045, eq. 7.

  In other libraries:
    The authors' code has an option that leaves out the last term.
  """
  z1, z2 = check_vectors(z1=z1, z2=z2)
  check_positive("a temperature", temperature)
  attraction = (unit(z1) * unit(z2)).sum(1) / temperature
  energy = _energy(z1, temperature, plan) + _energy(z2, temperature, plan)
  return difference(energy != -jnp.inf, energy, attraction)


def mv_dhel(views: ArrayLike, *, temperature: ArrayLike, plan: Plan = Plan()) -> Array:
  """MV-DHEL: DHEL for any number of views, with one attraction term for all pairs of views.

      L_i = −log Σ_{a < b} exp(s_i^{ab}/τ) + Σ_a log Σ_{j ≠ i} exp(s(z_ia, z_ja)/τ)
      s_i^{ab} = s(z_ia, z_ib)

  With two views it equals `dhel`.

  Args:
    views: vectors of v ≥ 2 views, [v, n, d].
    temperature: temperature τ > 0.
    plan: how the pairs are evaluated. It does not change the result.

  Returns:
    The loss of each example, [n]. It has no lower bound. With n = 1 there are no negatives and the
    loss is 0.

  Example:
    >>> import jax
    >>> from contrastax import losses
    >>> views = jax.random.normal(jax.random.key(0), (3, 8, 4))
    >>> losses.mv_dhel(views, temperature=0.1).shape
    (8,)

  References:
    Koromilas et al., "A Principled Framework for Multi-View Contrastive Learning", 2025, arXiv
    2507.06979.

  In other libraries:
    The authors' code multiplies the sums of the views. In float32, their product overflows at τ =
    0.02, and at larger τ with more views. This function adds logarithms.
  """
  views = check_views(views=views)
  check_positive("a temperature", temperature)
  attraction = jax.nn.logsumexp(jnp.stack(list(_positive_logits(views, temperature))), 0)
  energy = functools.reduce(jnp.add, [_energy(view, temperature, plan) for view in views])
  return difference(energy != -jnp.inf, energy, attraction)


def mv_info_nce(views: ArrayLike, *, temperature: ArrayLike, plan: Plan = Plan()) -> Array:
  """MV-InfoNCE: one softmax per example, over all pairs in which one of its views is the anchor.

      L_i = −log( Σ_{a ≠ b} exp(s_i^{ab}/τ) / Σ_a Σ_{(j, b) ≠ (i, a)} exp(s(z_ia, z_jb)/τ) )
      s_i^{ab} = s(z_ia, z_ib)

  Args:
    views: vectors of v ≥ 2 views, [v, n, d].
    temperature: temperature τ > 0.
    plan: how the pairs are evaluated. It does not change the result.

  Returns:
    The loss of each example, [n]. With n = 1 there are no negatives and the loss is 0.

  Example:
    >>> import jax
    >>> from contrastax import losses
    >>> views = jax.random.normal(jax.random.key(0), (3, 8, 4))
    >>> losses.mv_info_nce(views, temperature=0.1).shape
    (8,)

  References:
    Koromilas et al., "A Principled Framework for Multi-View Contrastive Learning", 2025, arXiv
    2507.06979.

  In other libraries:
    Like the authors' code, this function includes candidates of the anchor's own view as negatives.
    With two views it is not NT-Xent, because both anchors of an example share one denominator.
  """
  views = check_views(views=views)
  check_positive("a temperature", temperature)
  v, n, _ = views.shape
  group = _all_views(views, temperature)
  # In half precision, the gradient of a positive pair would lose its precision if it were the sum
  # of the gradients of two products, because both are rounded. So both reductions use one product.
  reductions = {"others": log_sum_exp, "positive": log_sum_exp}
  reduced = reduce(
    _OthersAndPositives(),
    group,
    (group,),
    score=cosine(),
    reductions=reductions,
    same_set=True,
    plan=plan,
  )
  others, attraction = (jax.nn.logsumexp(reduced[name].reshape(v, n), 0) for name in reductions)
  return difference(jnp.full(n, n > 1), others, attraction)


def poly_view(
  views: ArrayLike,
  *,
  temperature: ArrayLike,
  aggregate: Aggregate = "geometric",
  plan: Plan = Plan(),
) -> Array:
  """Poly-view contrastive loss: contrasts each view with the other views of its example.

      p_iab = exp(s_i^{ab}/τ) / (exp(s_i^{ab}/τ) + Σ_{j ≠ i} Σ_c exp(s(z_ia, z_jc)/τ))

      geometric               L_ia = −1/(v−1) Σ_{b ≠ a} log p_iab
      arithmetic              L_ia = −log 1/(v−1) Σ_{b ≠ a} p_iab
      sufficient statistics   L_ia = −log p of z_ia and the mean of the other views' unit vectors

  s_i^{ab} is s(z_ia, z_ib). With two views all three forms equal `nt_xent`.

  Args:
    views: vectors of v ≥ 2 views, [v, n, d].
    temperature: temperature τ > 0.
    aggregate: how the other views are combined.
    plan: how the pairs are evaluated. It does not change the result.

  Returns:
    The loss of each vector, [v·n], with the vectors of view 0 first. With n = 1 there are no
    negatives and the loss is 0.

  Example:
    >>> import jax
    >>> from contrastax import losses
    >>> views = jax.random.normal(jax.random.key(0), (3, 8, 4))
    >>> losses.poly_view(views, temperature=0.1, aggregate="arithmetic").shape
    (24,)

  References:
    Shidani et al., "Poly-View Contrastive Learning", 2024, arXiv 2403.05490. The authors have
    published no code. This function assumes that the mean of the other views is normalized again,
    and that the negatives are the same as in the other forms.

  In other libraries:
    One public implementation of the arithmetic form takes the logarithm of means over the batch and
    has the wrong sign.
  """
  views = check_views(views=views)
  if aggregate not in get_args(Aggregate):
    raise UserError(f"aggregate must be one of {', '.join(get_args(Aggregate))}, not {aggregate!r}")
  v, n, _ = views.shape
  group = _all_views(views, temperature)
  reduced = reduce(
    _Others("index"),
    group,
    (group,),
    score=cosine(),
    reductions={"others": log_sum_exp},
    same_set=True,
    plan=plan,
  )
  negatives = reduced["others"].reshape(v, n)
  u = unit(views)
  if aggregate == "sufficient statistics":
    mean_direction = unit(u.sum(0) - u)
    losses = jax.nn.softplus(negatives - (u * mean_direction).sum(-1) / temperature)
    return losses.reshape(-1)
  positives = jnp.einsum("and,bnd->abn", u, u) / temperature
  losses = jax.nn.softplus(negatives[:, None] - positives)
  others = ~jnp.eye(v, dtype=bool)[:, :, None]
  if aggregate == "geometric":
    losses = jnp.where(others, losses, 0).sum(1) / (v - 1)
  else:
    losses = jnp.log(v - 1.0) - jax.nn.logsumexp(jnp.where(others, -losses, -jnp.inf), 1)
  return losses.reshape(-1)


def cacr(
  views: ArrayLike,
  *,
  t_plus: ArrayLike = 1.0,
  t_minus: ArrayLike = 2.0,
  detach_weights: bool = False,
  plan: Plan = Plan(),
) -> Array:
  """CACR: contrastive attraction and repulsion, with weights that depend on the distances.

      L_i = mean_a Σ_{b ≠ a} π⁺_iab c(z_ia, z_ib) − mean_{a < b} Σ_{j ≠ i} π⁻_ijab c(z_ia, z_jb)
      π⁺_iab = softmax_b(t⁺ c(z_ia, z_ib)),  π⁻_ijab = softmax_j(−t⁻ c(z_ia, z_jb)),  c = ‖ẑ − ẑ'‖²

  ẑ is the unit vector of z. Distant positives and close negatives have larger weights.

  Args:
    views: vectors of v ≥ 2 views, [v, n, d]. With two views the weight of the positive is 1.
    t_plus: inverse temperature t⁺ ≥ 0 of the positives.
    t_minus: inverse temperature t⁻ ≥ 0 of the negatives. The authors use 0.9 for CIFAR-10 and 2 for
      CIFAR-100.
    detach_weights: whether to stop the gradient through the weights π.
    plan: how the pairs are evaluated. It does not change the result.

  Returns:
    The loss of each example, [n]. With n = 1 there is no repulsion.

  Example:
    >>> import jax
    >>> from contrastax import losses
    >>> views = jax.random.normal(jax.random.key(0), (3, 8, 4))
    >>> losses.cacr(views).shape
    (8,)

  References:
    Zheng et al., "Contrastive Attraction and Contrastive Repulsion for Representation Learning",
    2023, arXiv 2105.03746, eqs. 4 to 6.

  In other libraries:
    As in the authors' code, the earlier of two views contains the anchors of the repulsion. Their
    ImageNet code stops the gradient through the weights, and their other code does not.
  """
  views = check_views(views=views)
  v, n, _ = views.shape
  check_numbers(t_plus=t_plus, t_minus=t_minus)
  u = unit(views)
  costs = ((u[:, None] - u[None]) ** 2).sum(-1)
  others = ~jnp.eye(v, dtype=bool)[:, :, None]
  weights = jax.nn.softmax(jnp.where(others, t_plus * costs, -jnp.inf), 1)
  if detach_weights:
    weights = jax.lax.stop_gradient(weights)
  attraction = (weights * costs).sum(1).mean(0)
  repulsions = []
  for a, b in itertools.combinations(views, 2):
    side = {"index": row_index(a)}
    reduced = reduce(
      _Repulsion(detach_weights),
      Group(a, side),
      (Group(b, side),),
      score=cosine(),
      reductions={"cost": softmax_mean},
      shared=jnp.asarray(t_minus, compute_dtype(a)),
      plan=plan,
    )
    repulsions.append(reduced["cost"][1])
  return attraction - functools.reduce(jnp.add, repulsions) / (v * (v - 1) / 2)


@dataclasses.dataclass(frozen=True)
class _Repulsion:
  detach: bool

  def __call__(self, similarity, a, c, t_minus):
    cost = 2 - 2 * similarity
    exponent = -t_minus * (jax.lax.stop_gradient(cost) if self.detach else cost)
    return {"cost": (jnp.where(a["index"] == c["index"], -jnp.inf, exponent), cost)}


@dataclasses.dataclass(frozen=True)
class _Others:
  """The logits of the candidates that differ from the anchor in the side `by`."""

  by: str

  def __call__(self, similarity, a, c, shared):
    same = a[self.by] == c[self.by]
    return {"others": jnp.where(same, -jnp.inf, similarity / a["temperature"])}


@dataclasses.dataclass(frozen=True)
class _OthersAndPositives:
  """The logits of all other vectors, and the logits of the other views of the anchor's example."""

  def __call__(self, similarity, a, c, shared):
    logit = similarity / a["temperature"]
    itself, example = a["place"] == c["place"], a["index"] == c["index"]
    return {
      "others": jnp.where(itself, -jnp.inf, logit),
      "positive": jnp.where(example & ~itself, logit, -jnp.inf),
    }


def _energy(z: Array, temperature: ArrayLike, plan: Plan) -> Array:
  """Returns log Σ_{j ≠ i} exp(s(z_i, z_j)/τ), [n]."""
  group = attach_temperature(Group(z, {"place": row_index(z)}), temperature)
  return reduce(
    _Others("place"),
    group,
    (group,),
    score=cosine(),
    reductions={"others": log_sum_exp},
    same_set=True,
    plan=plan,
  )["others"]


def _all_views(views: Array, temperature: ArrayLike) -> Group:
  v, n, d = views.shape
  side = {"place": jnp.arange(v * n), "index": jnp.tile(jnp.arange(n), v)}
  return attach_temperature(Group(views.reshape(v * n, d), side), temperature)


def _positive_logits(views: Array, temperature: ArrayLike) -> Iterator[Array]:
  """Yields s_i^{ab}/τ, [n], for each pair of views a < b."""
  for a, b in itertools.combinations(unit(views), 2):
    yield (a * b).sum(-1) / temperature
