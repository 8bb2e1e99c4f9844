"""Every public loss, on arrays and on groups, as mesh.py measures it: its arrays, and its call."""

import dataclasses
import inspect

import jax.numpy as jnp
import numpy as np

from contrastax import criteria, losses
from contrastax.core import Group
from contrastax.pairwise import bilinear, cosine
from contrastax.relations import same_label

N, D = 40, 4


# The losses: {name: {form: (what it is called on, the call)}}.


def normal(seed, *shape):
  return np.random.default_rng(seed).normal(size=shape)


PAIR = {"a": normal(0, N, D), "b": normal(1, N, D), "tau": np.float64(0.3)}
PER_ROW = PAIR | {"tau": np.random.default_rng(2).uniform(0.2, 0.8, N)}
PER_VIEW = PAIR | {"tau": np.random.default_rng(2).uniform(0.2, 0.8, 2 * N)}
LABELED = {"a": PAIR["a"], "label": np.arange(N) % 5, "tau": PER_ROW["tau"]}


def two_views(loss, arrays=PAIR, **options):
  return arrays, lambda x, p: loss(x["a"], x["b"], temperature=x["tau"], plan=p, **options)


def half_visited(rows):
  """SogCLR's memory of so many rows, every other of which was visited."""
  memory = criteria.sogclr().init(rows)
  values = memory["log_mean"].values
  seen = jnp.arange(len(values)) % 2 == 0
  logs = jnp.where(seen, jnp.cos(jnp.arange(len(values), dtype=values.dtype)), 0)
  tables = {"log_mean": logs, "visited": seen}
  return memory | {name: dataclasses.replace(memory[name], values=x) for name, x in tables.items()}


def moving(a, b, *, temperature, plan, bimodal=False):
  value, memory = losses.sogclr(
    a, b, index=jnp.arange(N)[::-1], memory=half_visited(2 * N if bimodal else N), gamma=0.7,
    temperature=temperature, bimodal=bimodal, plan=plan,
  )  # fmt: skip
  return {"value": value, "memory": memory}


def unnormalized(x, plan):
  value, memory = losses.meco(x["x"], x["z"], x["q"], memory=half_visited(1), gamma=0.7)
  return {"value": value, "memory": memory}


def with_negatives(*shape):
  arrays = PER_ROW | {"negatives": normal(3, *shape, D)}
  return arrays, lambda x, p: losses.info_nce(
    x["a"], x["b"], x["negatives"], temperature=x["tau"], plan=p
  )


def by_label(loss):
  return LABELED, lambda x, p: loss(x["a"], x["label"], temperature=x["tau"], plan=p)


def of(name, *arrays, tau=0.3, **more):
  """A loss of arrays by name, [N, …] each; those of one set need no plan."""
  loss = getattr(losses, name)
  planned = "plan" in inspect.signature(loss).parameters
  made = {array: MADE[array] for array in arrays} | (
    {} if tau is None else {"tau": np.float64(tau)}
  )

  def call(x, plan):
    own = more | ({"plan": plan} if planned else {})
    if tau is not None:
      own["epsilon" if name == "sinkhorn" else "temperature"] = x["tau"]
    return loss(*(x[array] for array in arrays), **own)

  return {"": (made, call)}


MADE = {
  "a": PAIR["a"],
  "b": PAIR["b"],
  "c": normal(10, N, D),
  "label": LABELED["label"],
  "proxies": normal(11, 5, D),
  "guide": normal(12, N, 3),
  "views": normal(13, 3, N, D),
  "teacher": normal(14, 2, N, D),
  "assignments": np.exp(normal(15, 2, N, D)),
}


LOSSES = {
  "alignment": of("alignment", "a", "b", tau=None),
  "arcface": of("arcface", "a", "label", "proxies", tau=None, scale=4.0),
  "barlow_twins": of("barlow_twins", "a", "b", tau=None),
  "binary_nce": {
    "": (
      {name: normal(place, N) for place, name in enumerate(("x", "z", "qx", "qz"))},
      lambda x, _: losses.binary_nce(x["x"], x["z"], x["qx"], x["qz"]),
    ),
  },
  "cacr": of("cacr", "views", tau=None),
  "circle": of("circle", "a", "label", tau=None, scale=8.0),
  "cosface": of("cosface", "a", "label", "proxies", tau=None, scale=4.0),
  "dhel": of("dhel", "a", "b"),
  "dual_temperature": of("dual_temperature", "a", "b", inter_temperature=1.0),
  "group_ordering": of("group_ordering", "a", "b", tau=None, k=3),
  "hard_quantile": of("hard_quantile", "a", "b", alpha=0.2),
  "koleo": of("koleo", "a", tau=None),
  "meco": {
    "": ({name: normal(place, N) for place, name in enumerate(("x", "z", "q"))}, unnormalized),
  },
  "multi_similarity": of("multi_similarity", "a", "label", tau=None, beta=5.0),
  "mv_dhel": of("mv_dhel", "views"),
  "mv_info_nce": of("mv_info_nce", "views"),
  "n_pairs": of("n_pairs", "a", "b", "label", tau=None),
  "negative_cosine": of("negative_cosine", "a", "b", tau=None),
  "poly_view": of("poly_view", "views", aggregate="arithmetic"),
  "proxy_nca": of("proxy_nca", "a", "label", "proxies"),
  "rince": of("rince", "a", "b"),
  "self_distillation": of("self_distillation", "views", "teacher", center=0.1),
  "sinkhorn": of("sinkhorn", "a"),
  "soft_contrastive": of("soft_contrastive", "a", "b", "guide", guide_temperature=0.35),
  "soft_nearest_neighbor": of("soft_nearest_neighbor", "a", "label", tau=1.0),
  "spectral": of("spectral", "a", "b", tau=None),
  "swapped_prediction": of("swapped_prediction", "views", "assignments"),
  "symile": of("symile", "a", "b", "c"),
  "triplet": of("triplet", "a", "label", tau=None, margin=0.5)
  | {"all": of("triplet", "a", "label", tau=None, margin=0.5, mining="batch all")[""]},
  "uniformity": of("uniformity", "a", tau=None),
  "vicreg": of("vicreg", "a", "b", tau=None),
  "w_mse": of("w_mse", "a", "b", tau=None),
  "info_nce": {
    "in the batch": two_views(losses.info_nce),
    "a queue": with_negatives(48),
    "a queue that devices do not divide": with_negatives(13),
    "a set per anchor": with_negatives(N, 3),
  },
  "nt_xent": {"": two_views(losses.nt_xent, PER_VIEW)},
  "dcl": {"": two_views(losses.dcl)},
  "dclw": {"": two_views(losses.dclw)},
  "sup_con": {"": by_label(losses.sup_con)},
  "sup_con_in": {"": by_label(losses.sup_con_in)},
  "clip": {
    "": two_views(losses.clip),
    "two temperatures": (
      PER_ROW | {"other": np.random.default_rng(4).uniform(0.2, 0.8, N)},
      lambda x, p: losses.clip(x["a"], x["b"], temperature=(x["tau"], x["other"]), plan=p),
    ),
  },
  "siglip": {
    "": (
      PER_ROW | {"bias": np.float64(-1)},
      lambda x, p: losses.siglip(x["a"], x["b"], temperature=x["tau"], bias=x["bias"], plan=p),
    ),
  },
  "hard_negative": {"": two_views(losses.hard_negative, beta=1.0, tau_plus=0.1)},
  "debiased": {"": two_views(losses.debiased, tau_plus=0.1)},
  "sogclr": {
    "": two_views(moving, PER_VIEW),
    "two modalities": two_views(moving, PER_VIEW, bimodal=True),
  },
}


def on_groups(
  criterion, *, queue=13, same_set=True, score=cosine(), score_params=(), n=N, **options
):
  """By label, with a queue, a set per anchor, a temperature per anchor, weights and all stats."""
  rng = np.random.default_rng(5)

  def group(*shape):
    weights = {w: rng.uniform(0.2, 1, shape) for w in ("as_positive", "as_negative")}
    places = {"index": rng.permutation(np.prod(shape)).reshape(shape), "view": np.zeros(shape, int)}
    side = {**places, "label": rng.integers(0, 4, shape), **weights}
    return {"vectors": rng.normal(size=(*shape, D)), "side": side}

  arrays = {"anchors": group(n), "queue": group(queue), "own": group(n, 2)}
  arrays |= {"tau": rng.uniform(0.2, 0.8, n), "score": score_params}

  def call(x, plan):
    anchors, queue, own = (Group(**x[name]) for name in ("anchors", "queue", "own"))
    out = criteria.evaluate(
      criterion, anchors, (anchors, queue, own), relation=same_label(), temperature=x["tau"],
      same_set=same_set, score=score, score_params=x["score"], stats=criteria.softmax_core.STATS,
      plan=plan, **options,
    )  # fmt: skip
    stats = {**out.stats, "weight": out.weight}
    return {"value": out.value, "stats": stats, "memory": out.memory}

  return arrays, call


ON_GROUPS = {
  "info_nce": {
    "": on_groups(criteria.info_nce()),
    "a queue that devices divide": on_groups(criteria.info_nce(), queue=48),
    "another score": on_groups(criteria.info_nce(), score=bilinear(), score_params=normal(6, D, D)),
  },
  "sup_con_in": {"": on_groups(criteria.sup_con_in())},
  "dcl": {"": on_groups(criteria.dcl())},
  "dclw": {"": on_groups(criteria.dclw())},
  "hard_negative": {"": on_groups(criteria.hard_negative(beta=1.0, tau_plus=0.1))},
  "debiased": {"": on_groups(criteria.debiased(tau_plus=0.1))},
  "siglip": {"": on_groups(criteria.siglip(), bias=-1.0)},
  "sogclr": {
    "": on_groups(criteria.sogclr(0.7), memory=half_visited(N)),
    "of similarities": on_groups(criteria.sogclr(0.7, relative=False), memory=half_visited(N)),
  },
}
