"""SupReMix on a small regression: do mixes by label order a space, and does that help to predict?

  python benchmarks/supremix.py run
  python benchmarks/supremix.py draw

Wu et al. 2023, arXiv 2309.16633: contrastive learning with numbers as labels leaves a space in
fragments; mixes of the anchor with negatives, and mixes of smaller with larger labels as
positives, put it in order, so that a regression on it errs less than one that was trained by the
absolute error, and less than SupCon on binned labels. Here on scikit-learn's diabetes: 442
patients, 10 numbers each, and one target, the disease's progress after a year.

Arms, over 5 random splits into 262, 90 and 90 patients to train, validate and test (seeds 0 to 4,
which are those of the networks too):
  L1             the encoder and a linear layer, trained by the absolute error
  SupCon         in_batch, same_label: labels are the quantile bin of the target
  SupReMix       in_batch + supremix(64 negatives, 32 positives, α, β = 2, 8), labels the target;
                 same_label & label_distance
  mix-neg only   the same without its positives
  mix-pos only   the same without its negatives
What is trained by a contrastive loss is then frozen, and read by a ridge regression on the
encoder's features, without the projection; L1 predicts by its own layer.

Measures on the 90 test patients: the mean absolute error (MAE), in units of the target, and
Spearman's correlation, over their 4,005 pairs, of the distance of targets with the Euclidean
distance of the encoder's features. Less of the first and more of the second is better.

Hypotheses, of paired differences over the splits:
  mae        SupReMix's MAE is below L1's and below SupCon's, by more than two standard errors each
  spearman   its correlation is above both, by more than two standard errors each
Each counts only if by its measure the best and the worst of the five arms differ by more than
three standard errors of their paired difference. Else: not tested. The splits share patients, so
standard errors are somewhat too small. The two ablations stand beside and decide nothing, and so
do predicting the median, the ridge regression on the numbers themselves and on an untrained
encoder, the ridge on L1's features, and the correlation by cosine distance.

Budget: an MLP of 64 and 64, a projection of 64 and 32, AdamW, 131 patients a step in two views,
which add noise of 0.2 to the standardised numbers and put one in ten to its mean; 320 steps. All
is standardised by training statistics. Chosen for each arm and split on its validation patients
alone, by MAE: one of eight settings (below, `SETTINGS`), the step among 40, 80, 160 and 320, and
the ridge's penalty among 0.1 to 10,000. Then the chosen one is trained anew and tested, once.
200 trials and 25 runs, some 2 s each on two cores. Where an arm lacks a third thing to choose,
it has more values of its second.

Nothing was run before these lines but four steps on two of the splits, to see the script work.

Results go to results/supremix.jsonl line by line; what stands there is not run again.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
from symile_xor import cell, fill, heading, mean_error, read, values

from contrastax import data, encoders, evaluation, methods, temperatures, training
from contrastax.core import Encoder, Recipe, per_example
from contrastax.negatives import in_batch, supremix
from contrastax.positives import label_distance, same_label

RESULTS = pathlib.Path(__file__).parent / "results" / "supremix.jsonl"
SEEDS, TRAIN, VALIDATION, PATIENTS, STEPS = range(5), 262, 90, 131, (40, 80, 160, 320)
PENALTIES = tuple(10.0**e for e in range(-1, 5))
ENCODER, PROJECTION = encoders.mlp((64, 64)), encoders.projection((64,), out=32)
MIXES = {  # negatives and positives per anchor
  "SupReMix": (64, 32), "mix-neg only": (64, 0), "mix-pos only": (0, 32)
}  # fmt: skip
ARMS = ("L1", "SupCon", *MIXES)
COLUMNS = {
  "mae": ("MAE", 2), "spearman": ("Spearman", 3), "ridge": ("MAE of a ridge", 2),
  "spearman_cosine": ("Spearman, cosine", 3),
}  # fmt: skip
BESIDE = ("median", "numbers", "untrained")


def _settings(**choices):
  return [dict(zip(choices, one, strict=True)) for one in itertools.product(*choices.values())]


_RATES, _TEMPERATURES = (1e-3, 4e-3), (0.1, 0.5)
_WINDOWED = _settings(rate=_RATES, temperature=_TEMPERATURES, window=(0.25, 1.0))
SETTINGS = {  # eight each; windows in standard deviations of the target
  "L1": _settings(rate=_RATES, decay=(1e-4, 1e-2, 1e-1, 1.0)),
  "SupCon": _settings(rate=_RATES, temperature=_TEMPERATURES, bins=(5, 10)),
  "SupReMix": _WINDOWED,
  "mix-neg only": _settings(rate=_RATES, temperature=(0.1, 0.25, 0.5, 1.0)),
  "mix-pos only": _WINDOWED,
}


@functools.cache
def split(seed: int):
  """(numbers, targets) to train, validate and test, standardised; the targets' deviation."""
  from sklearn.datasets import load_diabetes

  x, y = load_diabetes(return_X_y=True, scaled=False)
  order = np.random.default_rng(seed).permutation(len(y))
  parts = np.split(order, [TRAIN, TRAIN + VALIDATION])
  own, deviation = parts[0], y[parts[0]].std()
  x, y = (x - x[own].mean(0)) / x[own].std(0), (y - y[own].mean()) / deviation
  return [(x[p].astype(np.float32), y[p].astype(np.float32)) for p in parts], float(deviation)


@dataclasses.dataclass(frozen=True)
class disturbed:
  """Standardised numbers [n, d] with noise added, and some of them at their mean, 0."""

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
  """A method that predicts the label: the mean absolute error over two views."""

  encoder: Encoder = ENCODER
  head: Encoder = encoders.projection((), out=1)
  views: Recipe = disturbed()

  def see(self, net, batch):
    predicted = net("head", net("encoder", net.views(self.views, batch, self.input)))
    return jnp.abs(jnp.stack([*predicted.values()])[..., 0] - batch["label"]).mean(), {}


# Rates are part of its state, so that what differs in them alone is compiled once.
OPTIMIZER = optax.inject_hyperparams(optax.adamw)(learning_rate=1e-3, weight_decay=1e-4)


@functools.cache
def method_and_step(arm: str, temperature: float, window: float):
  if arm == "L1":
    method = L1()
  else:
    negatives, relation = in_batch(), same_label()
    if arm in MIXES:
      count, positives = MIXES[arm]
      negatives += supremix(
        negatives=count, positives=positives, alpha=2.0, beta=8.0, window=window
      )
      relation &= label_distance()
    method = methods.SimCLR(
      encoder=ENCODER, projection=PROJECTION, views=disturbed(), negatives=negatives,
      relation=relation, temperature=temperatures.fixed(temperature),
    )  # fmt: skip
  return method, training.make_train_step(method, OPTIMIZER, training.make_mesh())


def trained(job, settings, stops):
  """The state after each of these numbers of steps."""
  method, step = method_and_step(
    job["arm"], settings.get("temperature", 0.5), settings.get("window", math.inf)
  )
  (x, y), *_ = split(job["seed"])[0]
  if "bins" in settings:
    edges = np.quantile(y, np.arange(1, settings["bins"]) / settings["bins"])
    y = np.searchsorted(edges, y, side="right").astype(np.int32)
  source = data.Resident({"image": x, "label": y}, batch_size=PATIENTS, seed=job["seed"])
  state = training.init(method, OPTIMIZER, source.batch(0), seed=job["seed"])
  rates = {"learning_rate": settings["rate"], "weight_decay": settings.get("decay", 1e-4)}
  held = state.opt_state.hyperparams
  # Where those of before were, or the second step would be compiled anew.
  rates = {k: jax.device_put(np.float32(v), held[k].sharding) for k, v in rates.items()}
  state = state._replace(opt_state=state.opt_state._replace(hyperparams={**held, **rates}))
  for start, stop in itertools.pairwise([0, *stops]):
    for t in range(start, stop):
      state, _ = step(state, source.batch(t))
    yield state


def features(state, parts):
  own = state.params["encoder"], state.state["encoder"]
  return [evaluation.embed(ENCODER, *own, x) for x, _ in parts]


def by_ridge(inputs, targets):
  """Predictions of each part by the ridge regression that errs least on the second."""
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


def ordered(h, y, metric) -> float:
  """Spearman's correlation of the distances of all pairs of targets and of features."""
  from scipy import stats
  from scipy.spatial.distance import pdist

  return float(stats.spearmanr(pdist(y[:, None]), pdist(h.astype(float), metric))[0])


def measure(job) -> dict:
  parts, deviation = split(job["seed"])
  targets = [y for _, y in parts]

  def error(predicted, part):
    return float(np.abs(predicted[part] - targets[part]).mean() * deviation)

  def read_out(state):
    """(The features, predictions) of `parts`, the last of which need not be the test's."""
    h = features(state, parts)
    return h, by_head(state, h) if job["arm"] == "L1" else by_ridge(h, targets)

  if job["part"] == "select":
    parts, targets = parts[:2], targets[:2]  # the test is not even predicted
    return {"validation": [error(read_out(s)[1], 1) for s in trained(job, job["settings"], STEPS)]}
  if job["arm"] in BESIDE:
    return beside(job, parts, targets, error)
  (state,) = trained(job, job["settings"], [job["steps"]])
  h, predicted = read_out(state)
  return {
    "mae": error(predicted, 2), "ridge": error(by_ridge(h, targets), 2),
    "spearman": ordered(h[2], targets[2], "euclidean"),
    "spearman_cosine": ordered(h[2], targets[2], "cosine"),
  }  # fmt: skip


def beside(job, parts, targets, error) -> dict:
  """What is not trained."""
  if job["arm"] == "median":
    return {"mae": error([np.median(targets[0])] * 3, 2)}
  if job["arm"] == "numbers":
    h = [x for x, _ in parts]
  else:
    (state,) = trained({**job, "arm": "L1"}, {"rate": 0.0}, [0])
    h = features(state, parts)
  return {
    "mae": error(by_ridge(h, targets), 2), "spearman": ordered(h[2], targets[2], "euclidean"),
    "spearman_cosine": ordered(h[2], targets[2], "cosine"),
  }  # fmt: skip


def run():
  fill(RESULTS, [{"part": "beside", "arm": a, "seed": s} for a in BESIDE for s in SEEDS], measure)
  trials = [
    {"part": "select", "arm": arm, "settings": settings, "seed": seed}
    for arm in ARMS
    for settings in SETTINGS[arm]
    for seed in SEEDS
  ]
  fill(RESULTS, trials, measure)
  stand = read(RESULTS)
  fill(
    RESULTS,
    [
      {"part": "run", "arm": arm, **selected(stand, arm, seed), "seed": seed}
      for arm in ARMS
      for seed in SEEDS
    ],
    measure,
  )


def selected(stand, arm, seed) -> dict:
  """The settings and the steps of the least validation error; of equals the first."""
  job = {"part": "select", "arm": arm, "seed": seed}
  rows = [record for record in stand if job.items() <= record.items()]
  best = min(rows, key=lambda record: min(record["validation"]))
  place = int(np.argmin(best["validation"]))
  return {"settings": best["settings"], "steps": STEPS[place]}


def draw():
  from matplotlib.figure import Figure

  stand = read(RESULTS)
  runs = {arm: [r for r in stand if r["part"] == "run" and r["arm"] == arm] for arm in ARMS}
  if any(len(found) < len(SEEDS) for found in runs.values()):
    sys.exit("runs are missing; python benchmarks/supremix.py run")
  of = {(arm, c): values(stand, c, part="run", arm=arm) for arm in ARMS for c in COLUMNS}
  lines = [
    "# SupReMix on diabetes", "", heading(stand), "",
    f"90 test patients of {len(SEEDS)} splits, mean ± standard error. L1 predicts by its own layer, the others "
    "by a ridge regression on frozen features. Chosen: what most splits chose, and by how many.", "",
    f"| arm | {' | '.join(title for title, _ in COLUMNS.values())} | chosen |", "|---" * 6 + "|",
  ]  # fmt: skip
  for arm in ARMS:
    cells = [cell(of[arm, c], digits) for c, (_, digits) in COLUMNS.items()]
    lines.append(f"| {arm} | {' | '.join(cells)} | {chosen(runs[arm])} |")
  titles = {
    "median": "the median",
    "numbers": "the numbers, ridge",
    "untrained": "untrained, ridge",
  }
  for arm in BESIDE:
    rows = [r for r in stand if r["part"] == "beside" and r["arm"] == arm]
    cells = [
      cell(np.array([r[c] for r in rows]), digits) if c in rows[0] else "–"
      for c, (_, digits) in COLUMNS.items()
    ]
    lines.append(f"| {titles[arm]} | {' | '.join(cells)} | – |")
  said = [verdict(of, "mae", -1), verdict(of, "spearman", 1)]
  lines += ["", " ".join(said), "", "![error and order, split by split](supremix.png)", ""]
  RESULTS.with_suffix(".md").write_text("\n".join(lines))

  figure = Figure(figsize=(9, 3.6), layout="constrained")
  for axis, c in zip(figure.subplots(1, 2), ("mae", "spearman"), strict=True):
    found = np.stack([of[arm, c] for arm in ARMS])
    axis.plot(found, color="grey", linewidth=0.7, alpha=0.6)
    mean, error = np.transpose([mean_error(each) for each in found])
    axis.errorbar(range(len(ARMS)), mean, error, marker="o", linestyle="none", capsize=4)
    axis.set_xticks(range(len(ARMS)), [arm.replace(" ", "\n") for arm in ARMS])
    axis.set_ylabel({"mae": "mean absolute error", "spearman": "Spearman's correlation"}[c])
    axis.grid(alpha=0.3)
  figure.savefig(RESULTS.with_suffix(".png"), dpi=110)
  print("\n".join(lines))


def chosen(runs) -> str:
  texts = [
    ", ".join(f"{k} {v:g}" for k, v in {**r["settings"], "steps": r["steps"]}.items()) for r in runs
  ]
  most = max(texts, key=texts.count)
  return f"{most} ({texts.count(most)})"


def verdict(of, column, sign) -> str:
  """sign: 1 where more is better."""
  found = {arm: sign * of[arm, column] for arm in ARMS}
  best, worst = (pick(ARMS, key=lambda arm: found[arm].mean()) for pick in (max, min))
  lead, error = mean_error(found[best] - found[worst])
  said = f"best is {best}, worst {worst}, apart by {lead:.3f} ± {error:.3f}"
  if lead <= 3 * error:
    return f"`{column}` is not tested: {said}."
  leads = {arm: mean_error(found["SupReMix"] - found[arm]) for arm in ARMS if arm != "SupReMix"}
  holds = all(leads[arm][0] > 2 * leads[arm][1] for arm in ("L1", "SupCon"))
  differences = ", ".join(f"{sign * m:+.3f} ± {e:.3f} from {arm}" for arm, (m, e) in leads.items())
  judged = "holds" if holds else "does not show"
  return f"`{column}` {judged}: SupReMix differs by {differences}; {said}."


if __name__ == "__main__":
  if sys.argv[1:] not in (["run"], ["draw"]):
    sys.exit("say what to do: run or draw")
  {"run": run, "draw": draw}[sys.argv[1]]()
