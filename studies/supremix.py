"""SupReMix on a small regression: do mixes by label order a space, and does that help to predict?

200 trials and 25 runs, some 2 s each on two cores. Wu et al. 2023, arXiv 2309.16633: contrastive
learning with numbers as labels leaves a space in fragments; mixes of the anchor with negatives, and
mixes of smaller with larger labels as positives, put it in order, so that a regression on it errs
less than one that was trained by the absolute error, and less than SupCon on binned labels. Here on
scikit-learn's diabetes: 442 patients, 10 numbers each, and one target, the disease's progress after
a year.

Arms, over 5 random splits into 262, 90 and 90 patients to train, validate and test (seeds 0 to 4,
which are those of the networks too):
  L1             the encoder and a linear layer, trained by the absolute error
  SupCon         in_batch, same_label: labels are the quantile bin of the target
  SupReMix       in_batch + supremix(64 negatives, 32 positives, α, β = 2, 8), labels the target;
                 same_label & label_distance
  mix-neg only   the same without its positives
  mix-pos only   the same without its negatives
An encoder that is trained by a contrastive loss is then frozen, and a ridge regression predicts
from its features, without the projection; L1 predicts by its own layer.

Measures on the 90 test patients: the mean absolute error (MAE), in units of the target, and
Spearman's correlation, over their 4,005 pairs, of the distance of targets with the Euclidean
distance of the encoder's features. Less of the first and more of the second is better.

Hypotheses, of paired differences over the splits:
  mae        SupReMix's MAE is below L1's and below SupCon's, by more than two standard errors each
  spearman   its correlation is above both, by more than two standard errors each
Condition of each: by its measure the best and the worst of the five arms differ by more than three
standard errors of their paired difference. The splits share patients, so standard errors are
somewhat too small. These decide nothing: the two ablations, predicting the median, the ridge
regression on the numbers themselves and on an untrained encoder, the ridge on L1's features, the
correlation by cosine distance.

Budget: an MLP of 64 and 64, a projection of 64 and 32, AdamW, 131 patients a step in two views,
which add noise of 0.2 to the standardized numbers and set one in ten to its mean; 320 steps. All is
standardized by training statistics. Chosen for each arm and split on its validation patients alone,
by MAE: one of eight settings (`SETTINGS`), the step among 40, 80, 160 and 320, and the ridge's
penalty among 0.1 to 10,000. Then the chosen one is trained anew and tested, once. Where an arm
lacks a third thing to choose, it has more values of its second. Nothing was run before these lines
but four steps on two of the splits, to check that the script works.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax

from contrastax import data, encoders, evaluation, methods, temperatures, training
from contrastax.core import Encoder, Recipe, per_example
from contrastax.negatives import in_batch, supremix
from contrastax.relations import label_distance, same_label
from studies.common import fit
from studies.common.report import Verdict, estimate, extremes, paired, table
from studies.common.study import Study, grid

SEEDS, TRAIN, VALIDATION, PATIENTS, STOPS = range(5), 262, 90, 131, (40, 80, 160, 320)
PENALTIES = tuple(10.0**e for e in range(-1, 5))
ENCODER, PROJECTION = encoders.mlp((64, 64)), encoders.projection((64,), out=32)
MIXES = {"SupReMix": (64, 32), "mix-neg only": (64, 0), "mix-pos only": (0, 32)}  # per anchor
ARMS = ("L1", "SupCon", *MIXES)
COLUMNS = {
  "mae": ("MAE", 2), "spearman": ("Spearman", 3), "ridge": ("MAE of a ridge", 2),
  "spearman_cosine": ("Spearman, cosine", 3),
}  # fmt: skip
BESIDE = {
  "median": "the median", "numbers": "the numbers, ridge", "untrained": "untrained, ridge"
}  # fmt: skip
RATES, TAUS = (1e-3, 4e-3), (0.1, 0.5)
WINDOWED = grid(rate=RATES, temperature=TAUS, window=(0.25, 1.0))
SETTINGS = {  # eight each; windows in standard deviations of the target
  "L1": grid(rate=RATES, decay=(1e-4, 1e-2, 1e-1, 1.0)),
  "SupCon": grid(rate=RATES, temperature=TAUS, bins=(5, 10)),
  "SupReMix": WINDOWED,
  "mix-neg only": grid(rate=RATES, temperature=(0.1, 0.25, 0.5, 1.0)),
  "mix-pos only": WINDOWED,
}


@functools.cache
def split(seed: int):
  """Returns standardized (numbers, targets) to train, validate and test; the targets' deviation."""
  from sklearn.datasets import load_diabetes

  x, y = load_diabetes(return_X_y=True, scaled=False)
  parts = np.split(np.random.default_rng(seed).permutation(len(y)), [TRAIN, TRAIN + VALIDATION])
  own, deviation = parts[0], y[parts[0]].std()
  x, y = (x - x[own].mean(0)) / x[own].std(0), (y - y[own].mean()) / deviation
  return [(x[p].astype(np.float32), y[p].astype(np.float32)) for p in parts], float(deviation)


@dataclasses.dataclass(frozen=True)
class disturbed:
  """Adds noise to standardized numbers [n, d], and sets some of them to their mean, 0."""

  noise: float = 0.2
  missing: float = 0.1

  def __call__(self, key, numbers, index):
    def one(key, x):
      noise, missing = jax.random.split(key)
      x = x + self.noise * jax.random.normal(noise, x.shape)
      return jnp.where(jax.random.bernoulli(missing, self.missing, x.shape), 0, x)

    return jax.vmap(one)(per_example(key, index), numbers)


@dataclasses.dataclass(frozen=True, kw_only=True)
class L1(methods.BaseMethod):
  """Predicts the label: the loss is the mean absolute error over two views."""

  encoder: Encoder = ENCODER
  head: Encoder = encoders.projection((), out=1)
  views: Recipe = disturbed()

  def see(self, net, batch):
    predicted = net("head", net("encoder", net.views(self.views, batch, self.input)))
    return jnp.abs(jnp.stack([*predicted.values()])[..., 0] - batch["label"]).mean(), {}


# Rates are part of the optimizer's state, so that a change of rate does not compile the step again.
OPTIMIZER = optax.inject_hyperparams(optax.adamw)(learning_rate=1e-3, weight_decay=1e-4)


@functools.cache
def method_and_step(arm: str, temperature: float, window: float):
  negatives, relation = in_batch(), same_label()
  if arm in MIXES:
    count, positives = MIXES[arm]
    negatives += supremix(negatives=count, positives=positives, alpha=2.0, beta=8.0, window=window)
    relation &= label_distance()
  method = L1() if arm == "L1" else methods.SimCLR(
    encoder=ENCODER, projection=PROJECTION, views=disturbed(), negatives=negatives,
    relation=relation, temperature=temperatures.fixed(temperature),
  )  # fmt: skip
  return method, training.make_train_step(method, OPTIMIZER, training.make_mesh())


def trained(arm, seed, settings, stops):
  """Yields the state after each of these numbers of steps."""
  own = settings.get("temperature", 0.5), settings.get("window", math.inf)
  method, step = method_and_step(arm, *own)
  (x, y), *_ = split(seed)[0]
  if "bins" in settings:
    edges = np.quantile(y, np.arange(1, settings["bins"]) / settings["bins"])
    y = np.searchsorted(edges, y, side="right").astype(np.int32)
  source = data.Resident({"image": x, "label": y}, batch_size=PATIENTS, seed=seed)
  state = training.init(method, OPTIMIZER, source.batch(0), seed=seed)
  held = state.opt_state.hyperparams
  rates = {"learning_rate": settings["rate"], "weight_decay": settings.get("decay", 1e-4)}
  # On the devices of the values they replace; else the second step would be compiled again.
  rates = {k: jax.device_put(np.float32(v), held[k].sharding) for k, v in rates.items()}
  state = state._replace(opt_state=state.opt_state._replace(hyperparams={**held, **rates}))
  for start, stop in itertools.pairwise([0, *stops]):
    for t in range(start, stop):
      state, _ = step(state, source.batch(t))
    yield state


def features(state, parts):
  return [fit.embed(L1(), state, x) for x, _ in parts]  # all arms have the same encoder


def by_ridge(inputs, targets):
  """Returns predictions for each part by the ridge regression that errs least on the second."""
  from sklearn.linear_model import Ridge
  from sklearn.pipeline import make_pipeline
  from sklearn.preprocessing import StandardScaler
  from threadpoolctl import threadpool_limits

  found = []
  with threadpool_limits(1):
    for penalty in PENALTIES:
      fitted = make_pipeline(StandardScaler(), Ridge(penalty)).fit(inputs[0], targets[0])
      found.append([fitted.predict(x) for x in inputs])
  return min(found, key=lambda predicted: np.abs(predicted[1] - targets[1]).mean())


def by_head(state, h):
  own = state.params["head"], state.state["head"]
  return [evaluation.embed(L1().head, *own, x)[:, 0] for x in h]


def measure(job):
  arm, seed = job["arm"], job["seed"]
  parts, deviation = split(seed)
  if job["part"] == "select":
    parts = parts[:2]  # nothing is predicted for the test
  targets = [y for _, y in parts]

  def error(predicted, part):
    return float(np.abs(predicted[part] - targets[part]).mean() * deviation)

  def tested(h, predicted):
    from scipy import stats
    from scipy.spatial.distance import pdist

    def ordered(metric):
      of_targets, of_features = pdist(targets[2][:, None]), pdist(h[2].astype(float), metric)
      return float(stats.spearmanr(of_targets, of_features)[0])

    found = {"mae": error(predicted, 2)}
    if job["part"] == "run":
      found["ridge"] = error(by_ridge(h, targets), 2)
    return {**found, "spearman": ordered("euclidean"), "spearman_cosine": ordered("cosine")}

  def predict(state):
    h = features(state, parts)
    return h, by_head(state, h) if arm == "L1" else by_ridge(h, targets)

  if job["part"] == "select":
    states = trained(arm, seed, job["settings"], STOPS)
    return {"validation": [error(predict(state)[1], 1) for state in states]}
  if arm == "median":
    return {"mae": error([np.median(targets[0])] * 3, 2)}
  if job["part"] == "beside":
    (state,) = trained("L1", seed, {"rate": 0.0}, [0])
    h = [x for x, _ in parts] if arm == "numbers" else features(state, parts)
    return tested(h, by_ridge(h, targets))
  (state,) = trained(arm, seed, job["settings"], [job["steps"]])
  return tested(*predict(state))


def trials(_):
  return grid(part=["beside"], arm=BESIDE, seed=SEEDS) + [
    job for arm in ARMS
    for job in grid(part=["select"], arm=[arm], settings=SETTINGS[arm], seed=SEEDS)
  ]  # fmt: skip


def runs(records):
  """Returns the settings and the steps with the least validation error; of equals the first."""
  found = []
  for job in grid(part=["run"], arm=ARMS, seed=SEEDS):
    rows = records.where(part="select", arm=job["arm"], seed=job["seed"])
    best = min(rows, key=lambda r: min(r["validation"]))
    steps = STOPS[int(np.argmin(best["validation"]))]
    found.append({**job, "settings": best["settings"], "steps": steps})
  return found


def chosen(rows) -> str:
  texts = [
    ", ".join(f"{k} {v:g}" for k, v in {**r["settings"], "steps": r["steps"]}.items()) for r in rows
  ]
  most = max(texts, key=texts.count)
  return f"{most} ({texts.count(most)})"


def report(records):
  done = records.where(part="run")
  yield (
    f"90 test patients of {len(SEEDS)} splits, mean ± standard error. L1 predicts by its own "
    "layer, the others by a ridge regression on frozen features. Chosen: what most splits chose, "
    "and by how many."
  )

  def cells(rows):
    return [f"{estimate(rows.values(c)):.{digits}f}" if c in rows[0] else "–"
            for c, (_, digits) in COLUMNS.items()]  # fmt: skip

  rows = [[arm, *cells(done.where(arm=arm)), chosen(done.where(arm=arm))] for arm in ARMS]
  rows += [[title, *cells(records.where(part="beside", arm=a)), "–"] for a, title in BESIDE.items()]
  yield table(["arm", *(title for title, _ in COLUMNS.values()), "chosen"], rows)
  for column, sign in (("mae", -1), ("spearman", 1)):
    of = {arm: sign * done.values(column, arm=arm) for arm in ARMS}
    best, worst = extremes(of)
    apart = paired(of[best], of[worst])
    leads = {arm: paired(of["SupReMix"], of[arm]) for arm in ("L1", "SupCon")}
    told = ", ".join(f"{lead:+.3f} against {arm}" for arm, lead in leads.items())
    yield Verdict(
      column, f"best is {best}, worst {worst}, apart by {apart:.3f}; SupReMix is better by {told}",
      all(lead.above(2) for lead in leads.values()), apart.above(3), "the arms differ",
    )  # fmt: skip


def figure(records, canvas):
  titles = {"mae": "mean absolute error", "spearman": "Spearman's correlation"}
  for axes, (column, title) in zip(canvas.subplots(1, 2), titles.items(), strict=True):
    found = np.stack([records.values(column, part="run", arm=arm) for arm in ARMS])
    axes.plot(found, color="gray", linewidth=0.7, alpha=0.6)
    mean, error = estimate(found.T)
    axes.errorbar(range(len(ARMS)), mean, error, marker="o", linestyle="none", capsize=4)
    axes.set_xticks(range(len(ARMS)), [arm.replace(" ", "\n") for arm in ARMS])
    axes.set_ylabel(title)
    axes.grid(alpha=0.3)


STUDY = Study(
  "supremix", "SupReMix on diabetes", measure=measure, report=report, figure=figure,
  stages=[trials, runs],
)  # fmt: skip
