"""How much does it matter at which temperature training begins? On digits.

  python benchmarks/initial_temperature.py run     # resumable; 60 runs of seconds
  python benchmarks/initial_temperature.py draw

SimCLR with InfoNCE, 1,297 training digits, perceptron 256-128, batch 128, AdamW 3e-3, 800 steps, seeds 0
to 4. Arms, each begun at τ₀ of 0.05, 0.2 and 0.8:

  fixed        τ₀
  scheduled    from τ₀ along half a cosine to 0.2
  learned      bounds 0.01 and 2
  individual   ρ = 0.4, bounds 0.01 and 2, η = 0.1, β = 0.5

All four have the same loss, so that `individual` differs by its temperatures alone (iSogCLR has its moving
average besides). Nothing was chosen by these accuracies. Measures, of 500 test images in h: 20 draws of
one label per class, which decides, since kNN is near its ceiling on digits; kNN as the second measure;
and `reached`, the mean τ of the anchors at the last step. The span of an arm on a seed is its
largest less its smallest accuracy over τ₀.

Hypotheses:
  sensitive   fixed's span exceeds that of each other arm by more than two standard errors of the
              difference, paired by seed
  forgets     learned and individual temperatures reach, on each seed, the same τ from all τ₀: the
              largest is at most 1.25 times the smallest
A run counts if its loss is finite and its rank at least 3. `sensitive` counts as a test only if fixed's best τ₀ is
above its worst by more than three standard errors of their difference, paired by seed.
"""

from __future__ import annotations

import pathlib
import sys

import jax.numpy as jnp
import numpy as np
import optax
from symile_xor import cell, fill, heading, mean_error, read, values

from contrastax import data, encoders, evaluation, methods, schedules, temperatures, training, views

RESULTS = pathlib.Path(__file__).parent / "results" / "initial_temperature.jsonl"
SEEDS, BEGINNINGS, BATCH, STEPS, OUT = range(5), (0.05, 0.2, 0.8), 128, 800, 64
END, LOW, HIGH, COLUMNS = 0.2, 0.01, 2.0, {"linear_1": "1 label per class", "knn": "kNN"}
ARMS = {
  "fixed": temperatures.fixed,
  "scheduled": lambda begin: temperatures.scheduled(
    schedules.cosine(start=begin, end=END, steps=STEPS)
  ),
  "learned": lambda begin: temperatures.learned(begin, LOW, HIGH),
  "individual": lambda begin: temperatures.individual(
    begin, rho=0.4, min_temperature=LOW, max_temperature=HIGH, learning_rate=0.1, beta=0.5
  ),
}


# SimCLR on digits, some seconds a run; benchmarks/heads_digits.py uses it too.


def simclr(*, hidden: int = 128, out: int = OUT, **parts) -> methods.SimCLR:
  return methods.SimCLR(
    encoder=encoders.mlp((256, 128)),
    projection=encoders.projection((hidden,), out),
    views=views.affine_jitter(shift=0.1, scale=0.15, rotation=10.0),
    **parts,
  )


def train(method, digits, seed: int):
  """(the last state, its step's metrics, accuracies and rank of h)."""
  source, optimizer = (
    data.Resident(digits.train, batch_size=BATCH, seed=seed),
    optax.adamw(3e-3, weight_decay=1e-4),
  )
  state = training.init(method, optimizer, source.batch(0), seed=seed)
  step = training.make_train_step(method, optimizer)
  for t in range(STEPS):
    state, metrics = step(state, source.batch(t))
  own = state.params["encoder"], state.state["encoder"]
  h, test_h = (
    evaluation.embed(method.encoder, *own, split["image"]) for split in (digits.train, digits.test)
  )
  split = h, digits.train["label"], test_h, digits.test["label"]
  return state, metrics, {
    "linear_1": float(evaluation.few_label(*split, per_class=1).mean()),
    "knn": float(evaluation.knn(*split)),
    "rank": float(evaluation.effective_rank(jnp.asarray(test_h))),
    "finite": bool(np.isfinite(metrics["loss"])),
  }  # fmt: skip


# The study.


def measure(job) -> dict:
  digits = data.load("digits")
  temperature = ARMS[job["arm"]](job["begin"])
  method = simclr(temperature=temperature, examples=len(digits.train["image"]))
  _, metrics, found = train(method, digits, job["seed"])
  return {**found, "reached": float(metrics["temperature"])}


def run() -> None:
  fill(
    RESULTS,
    [
      {"part": "run", "arm": arm, "begin": begin, "seed": seed}
      for arm in ARMS for begin in BEGINNINGS for seed in SEEDS
    ],
    measure,
  )  # fmt: skip


def draw() -> None:
  stand = read(RESULTS)

  def of(arm, column):
    """[seeds, τ₀]"""
    return np.stack([values(stand, column, arm=arm, begin=begin) for begin in BEGINNINGS], 1)

  lines = [
    "# Where a temperature begins", "", heading(stand), "",
    f"SimCLR on digits, 500 test images; {len(SEEDS)} seeds, mean ± standard error.", "",
    "| | measure | " + " | ".join(f"τ₀ = {begin}" for begin in BEGINNINGS) + " | span |", "|---" * 6 + "|",
  ]  # fmt: skip
  for column, title in {**COLUMNS, "reached": "τ at the end"}.items():
    for arm in ARMS:
      found = of(arm, column)
      cells = [cell(found[:, place]) for place in range(len(BEGINNINGS))]
      lines.append(f"| {arm} | {title} | {' | '.join(cells)} | {cell(np.ptp(found, axis=1))} |")
  runs = [record for record in stand if record["part"] == "run"]
  unsound = [r for r in runs if not r["finite"] or r["rank"] < 3]
  lines += ["", f"Runs that do not count: {len(unsound) or 'none'}.", ""]
  lines += [sensitive(column, of) for column in COLUMNS]
  apart = {
    arm: (of(arm, "reached").max(1) / of(arm, "reached").min(1)).max()
    for arm in ("learned", "individual")
  }
  said = ", ".join(f"{ratio:.2f} ({arm})" for arm, ratio in apart.items())
  lines.append(
    f"- forgets: the largest τ reached is at most so many times the smallest of its seed: {said}; the "
    f"hypothesis (1.25) {'holds' if max(apart.values()) <= 1.25 else 'does not hold'}."
  )
  RESULTS.with_suffix(".md").write_text("\n".join([*lines, ""]))
  print("\n".join(lines))


def sensitive(column, of) -> str:
  fixed = of("fixed", column)
  best, worst = fixed.mean(0).argmax(), fixed.mean(0).argmin()
  spread, error = mean_error(fixed[:, best] - fixed[:, worst])
  leads = {
    arm: mean_error(np.ptp(fixed, axis=1) - np.ptp(of(arm, column), axis=1)) for arm in ARMS if arm != "fixed"
  }  # fmt: skip
  said = ", ".join(f"{arm}'s by {lead:+.3f} ± {e:.3f}" for arm, (lead, e) in leads.items())
  holds = all(lead > 2 * e for lead, e in leads.values())
  verdict = "the hypothesis " + ("holds" if holds else "does not hold")
  return (
    f"- sensitive, by {COLUMNS[column]}: fixed is best at τ₀ = {BEGINNINGS[best]}, above its worst by {spread:.3f} ± "
    f"{error:.3f}; its span exceeds {said}; {verdict if spread > 3 * error else 'not tested'}."
  )


if __name__ == "__main__":
  if sys.argv[1:] not in (["run"], ["draw"]):
    sys.exit("say what to do: run or draw")
  {"run": run, "draw": draw}[sys.argv[1]]()
