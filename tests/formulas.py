"""Every public loss on arrays beside its formula, written plainly: dense, and with no care for rounding.

`LOSSES` lists them: what a loss is called with, the call, and the formula to read beside the
paper. The tests compare the two in float64 (test_formulas.py), and `benchmarks/numerics.py`
certifies what float32 makes of ours, beside what it makes of the formula.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from formulas_labels import (
  arcface,
  circle,
  cosface,
  multi_similarity,
  n_pairs,
  proxy_nca,
  soft_nearest_neighbor,
  sup_con,
  sup_con_in,
  triplet,
)
from formulas_pairs import (
  MEAN,
  binary_nce,
  clip,
  correction,
  dcl,
  dclw,
  dual_temperature,
  group_ordering,
  hard_negative,
  hard_quantile,
  info_nce,
  meco,
  nt_xent,
  rince,
  siglip,
  soft_contrastive,
  sogclr,
  symile,
  views,
)
from formulas_sets import (
  alignment,
  barlow_twins,
  cacr,
  dhel,
  koleo,
  koleo_condition,
  mv_dhel,
  mv_info_nce,
  negative_cosine,
  poly_view,
  self_distillation,
  sinkhorn,
  spectral,
  swapped_prediction,
  uniformity,
  vicreg,
  w_mse,
  w_mse_condition,
)

from contrastax import criteria, losses


@dataclasses.dataclass(frozen=True)
class Loss:
  """A public loss in one of its forms.

  ours, plain: (arrays by name, τ or None) -> values. arrays: seed -> arrays; those of floats are
  what it is differentiated by. tempered: whether it has a temperature. exponent: (arrays, τ) -> the
  largest exponent, of a cosine 1/τ; or the largest number that is added up. condition: by how
  much its own definition magnifies a rounding. alone: defined for a batch of one. free: arrays
  without a gradient.
  """

  ours: Callable
  plain: Callable
  arrays: Callable
  tempered: bool = True
  exponent: Callable = lambda x, tau: 1 / (tau or 1)
  condition: Callable = lambda x, tau: 1.0
  alone: bool = True
  free: tuple = ()


def two_views(name, formula, **more):
  own = {key: value for key, value in more.items() if key not in ("condition", "alone")}
  rest = {key: value for key, value in more.items() if key in ("condition", "alone")}
  return Loss(
    lambda x, tau: getattr(losses, name)(x["a"], x["b"], temperature=tau, **own),
    lambda x, tau: formula(*views(x), tau, **own), pair, **rest,
  )  # fmt: skip


EXAMPLES = 40


def remembering(size, seen):
  """SogCLR's memory of so many rows: those that `seen` is true of were visited, with u = e^MEAN."""
  memory = criteria.sogclr().init(size)
  visited = seen(jnp.arange(len(memory["visited"].values)))
  held = {"visited": visited, "log_mean": jnp.where(visited, MEAN, 0.0)}
  return memory | {name: dataclasses.replace(memory[name], values=held[name]) for name in held}


def of_memory(**more):
  """Of examples that are here or there in the data, half of which were visited."""

  def ours(x, tau):
    memory = remembering(2 * EXAMPLES, lambda row: row % EXAMPLES % 2 == 0)
    own = {"index": x["index"], "memory": memory, "gamma": 0.7}
    return losses.sogclr(x["a"], x["b"], temperature=tau, **own, **more)[0]

  return Loss(ours, functools.partial(sogclr, **more), places)


def of_scores(x, _):
  memory = remembering(1, lambda row: row == 0)
  return losses.meco(x["data"], x["noise"], x["log_noise"], memory=memory, gamma=0.7)[0]


# Largest exponents, or numbers.


def largest_square(*names):
  """The largest squared length of a vector, or product of two, over τ."""
  return lambda x, tau: 4 * max((x[name] ** 2).sum(-1).max() for name in names) / (tau or 1)


def largest_entry(*names):
  return lambda x, tau: 2 * max(np.abs(x[name]).max() for name in names) / (tau or 1)


def is_(number):
  return lambda x, tau: number


# Arrays.

N, D = 6, 8
LABELS = np.array([0, 0, 1, 1, 1, 2, 0])  # nobody shares label 2
SHUFFLES = np.array([[[1, 2, 3, 4, 5, 0], [2, 0, 1, 4, 3, 5]]] * 3)


def draw(shapes, **integers):
  def arrays(seed=0):
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=shape) for name, shape in shapes.items()} | integers

  return arrays


pair = draw({"a": (N, D), "b": (N, D)})
scores = draw({"data": (N,), "noise": (9,), "log_noise": (9,)})
labeled = draw({"z": (7, D)}, labels=LABELS)
places = draw({"a": (N, D), "b": (N, D)}, index=np.array([7, 2, 30, 11, 4, 39]))
many_views = draw({"views": (3, N, D)})
three = draw({"a": (N, D), "b": (N, D), "c": (N, D)})
proxies = draw({"z": (7, D), "w": (4, D)}, labels=LABELS)
tall = draw({"a": (24, 4), "b": (24, 4)})


def assigned(seed=0):
  x = draw({"views": (4, N, 5), "assignments": (2, N, 5)})(seed)
  e = np.exp(x["assignments"])
  return x | {"assignments": e / e.sum(-1, keepdims=True)}


def of(name, names, formula, arrays, tempered=True, **more):
  """A loss of the named arrays, one after another, with its own arguments."""
  about = {k: more.pop(k) for k in ("exponent", "condition", "alone", "free") if k in more}

  def ours(x, tau):
    own = {"temperature": tau} if tempered else {}
    return getattr(losses, name)(*(x[n] for n in names), **own, **more)

  return Loss(ours, functools.partial(formula, **more), arrays, tempered, **about)


LOSSES = {
  "alignment": of("alignment", "ab", alignment, pair, False, alpha=2.0),
  "alignment 1": of("alignment", "ab", alignment, pair, False, alpha=1.0),
  "arcface": of("arcface", ["z", "labels", "w"], arcface, proxies, False, margin=0.5, scale=64.0, exponent=is_(64.0)),
  "arcface wide": of("arcface", ["z", "labels", "w"], arcface, proxies, False, margin=1.5, scale=8.0, exponent=is_(8.0)),
  "barlow_twins": of(
    "barlow_twins", "ab", barlow_twins, pair, False, redundancy_weight=0.0051,
  ),
  "binary_nce": Loss(
    lambda x, _: losses.binary_nce(x["data"], x["noise"], x["data_log_noise"], x["log_noise"]), binary_nce,
    draw({"data": (N,), "noise": (9,), "data_log_noise": (N,), "log_noise": (9,)}), False,
    exponent=largest_entry("data", "noise", "data_log_noise", "log_noise")),
  "cacr": of("cacr", ["views"], cacr, many_views, False, t_plus=1.0, t_minus=2.0, exponent=is_(8.0)),
  "cacr detached": of(
    "cacr", ["views"], cacr, many_views, False, t_plus=5.0, t_minus=5.0, detach_weights=True, exponent=is_(20.0)),
  "circle": of("circle", ["z", "labels"], circle, labeled, False, margin=0.25, scale=80.0, exponent=is_(80.0 * 2.25**2)),
  "clip": of("clip", "ab", clip, pair),
  "cosface": of("cosface", ["z", "labels", "w"], cosface, proxies, False, margin=0.35, scale=64.0, exponent=is_(64.0)),
  "dcl": two_views("dcl", dcl),
  "dclw": two_views("dclw", dclw),
  "debiased": two_views(
    "debiased", hard_negative, tau_plus=0.1, condition=correction(0.1, 0.0)
  ),
  "dhel": of("dhel", "ab", dhel, pair),
  "dual_temperature": Loss(
    lambda x, tau: losses.dual_temperature(
      x["a"], x["b"], temperature=tau, inter_temperature=10 * tau
    ),
    lambda x, tau: dual_temperature(x, tau, 10 * tau), pair,
  ),
  "group_ordering": of("group_ordering", "ab", functools.partial(group_ordering), pair, False, k=3, steepness=5.0, exponent=is_(10.0)),
  "hard_negative": two_views(
    "hard_negative", hard_negative, tau_plus=0.1, beta=0.5, condition=correction(0.1, 0.5)
  ),
  "hard_quantile": two_views("hard_quantile", hard_quantile, alpha=0.3),
  "info_nce": Loss(
    lambda x, tau: losses.info_nce(x["a"], x["b"], temperature=tau), info_nce, pair
  ),
  "info_nce queue": Loss(
    lambda x, tau: losses.info_nce(x["a"], x["b"], x["negatives"], temperature=tau), info_nce,
    draw({"a": (N, D), "b": (N, D), "negatives": (9, D)}),
  ),
  "info_nce sets": Loss(
    lambda x, tau: losses.info_nce(x["a"], x["b"], x["negatives"], temperature=tau), info_nce,
    draw({"a": (N, D), "b": (N, D), "negatives": (N, 3, D)}),
  ),
  "koleo": of("koleo", ["z"], koleo, draw({"z": (7, D)}), False, condition=koleo_condition, alone=False),
  "meco": Loss(of_scores, meco, scores, False, exponent=largest_entry("data", "noise", "log_noise")),
  "multi_similarity": of(
    "multi_similarity", ["z", "labels"], multi_similarity, labeled, False,
    alpha=2.0, beta=50.0, base=0.5, margin=0.1, exponent=is_(75.0)),
  "multi_similarity unmined": of(
    "multi_similarity", ["z", "labels"], multi_similarity, labeled, False,
    alpha=2.0, beta=50.0, base=0.5, margin=None, exponent=is_(75.0)),
  "mv_dhel": of("mv_dhel", ["views"], mv_dhel, many_views),
  "mv_info_nce": of("mv_info_nce", ["views"], mv_info_nce, many_views),
  "n_pairs": of(
    "n_pairs", ["a", "b", "labels"], n_pairs,
    draw({"a": (N, D), "b": (N, D)}, labels=LABELS[:N]), False, l2_weight=0.1, exponent=largest_square("a", "b")),
  "negative_cosine": of("negative_cosine", "ab", negative_cosine, pair, False),
  "nt_xent": two_views("nt_xent", nt_xent),
  "poly_view": of("poly_view", ["views"], poly_view, many_views, aggregate="geometric"),
  "poly_view arithmetic": of("poly_view", ["views"], poly_view, many_views, aggregate="arithmetic"),
  "poly_view sufficient": of(
    "poly_view", ["views"], poly_view, many_views, aggregate="sufficient statistics"
  ),
  "proxy_nca": of("proxy_nca", ["z", "labels", "w"], proxy_nca, proxies, exponent=lambda x, tau: 4 / tau),
  "proxy_nca softmax": of(
    "proxy_nca", ["z", "labels", "w"], proxy_nca, proxies, own_in_denominator=True, exponent=lambda x, tau: 4 / tau),
  "rince": two_views("rince", rince, q=0.5, weight=0.025),
  "self_distillation": Loss(
    lambda x, tau: losses.self_distillation(
      x["views"], x["teacher"], center=x["center"], temperature=tau, teacher_temperature=0.1
    ),
    lambda x, tau: self_distillation(x, tau, 0.1),
    draw({"views": (4, N, 5), "teacher": (2, N, 5), "center": (5,)}), free=("center",), exponent=lambda x, tau: max(largest_entry("views")(x, tau), largest_entry("teacher", "center")(x, 0.1))),
  "sogclr": of_memory(relative=True, bimodal=False),
  "sogclr two modalities": of_memory(relative=True, bimodal=True),
  "sogclr of similarities": of_memory(relative=False, bimodal=False),
  "siglip": Loss(
    lambda x, tau: losses.siglip(x["a"], x["b"], temperature=tau, bias=x["bias"]), siglip,
    draw({"a": (N, D), "b": (N, D), "bias": ()}), exponent=lambda x, tau: 1 / tau + abs(x["bias"])),
  "sinkhorn": Loss(
    lambda x, tau: losses.sinkhorn(x["z"], epsilon=tau), sinkhorn, draw({"z": (N, 5)}), exponent=largest_entry("z")),
  "soft_contrastive": of("soft_contrastive", ["a", "b", "guide"], soft_contrastive,
    draw({"a": (N, D), "b": (N, D), "guide": (N, 5)}), free=("guide",)),
  "soft_contrastive softmax": of("soft_contrastive", ["a", "b", "guide"], soft_contrastive,
    draw({"a": (N, D), "b": (N, D), "guide": (N, 5)}), guide_temperature=0.35, free=("guide",)),
  "soft_nearest_neighbor": of(
    "soft_nearest_neighbor", ["z", "labels"], soft_nearest_neighbor, labeled, exponent=largest_square("z")),
  "spectral": of("spectral", "ab", spectral, pair, False, exponent=lambda x, tau: largest_square("a", "b")(x, tau) ** 2 / 16),
  "spectral shortened": of("spectral", "ab", spectral, pair, False, max_length=2.0),
  "sup_con": of("sup_con", ["z", "labels"], sup_con, labeled),
  "sup_con_in": of("sup_con_in", ["z", "labels"], sup_con_in, labeled),
  "swapped_prediction": of(
    "swapped_prediction", ["views", "assignments"], swapped_prediction, assigned,
    free=("assignments",), exponent=largest_entry("views")),
  "symile": of("symile", "abc", symile, three),
  "symile shuffled": of("symile", "abc", symile, three, shuffles=SHUFFLES, alone=False),
  "triplet": of("triplet", ["z", "labels"], triplet, labeled, False, margin=0.5, mining="batch hard", exponent=largest_entry("z")),
  "triplet all": of("triplet", ["z", "labels"], triplet, labeled, False, margin=0.5, mining="batch all", exponent=largest_entry("z")),
  "triplet semi-hard": of(
    "triplet", ["z", "labels"], triplet, labeled, False, margin=0.5, mining="semi-hard", exponent=largest_entry("z")),
  "uniformity": of("uniformity", ["z"], uniformity, draw({"z": (7, D)}), False, t=2.0, alone=False, exponent=is_(8.0)),
  "vicreg": of("vicreg", "ab", vicreg, pair, False, alone=False, exponent=is_(25.0)),
  "w_mse": of("w_mse", "ab", w_mse, tall, False, condition=w_mse_condition(0.0), alone=False),
  "w_mse slices": of(
    "w_mse", "ab", w_mse, tall, False, slices=2, shrinkage=0.1,
    condition=w_mse_condition(0.1, 2), alone=False,
  ),
}  # fmt: skip
"""Every public loss: a name here begins with the loss's own."""
