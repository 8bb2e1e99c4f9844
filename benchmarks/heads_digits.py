"""Are several heads with a temperature of each pair better than one, on digits? (AMCL)

  python benchmarks/heads_digits.py choose     # 25 trials of seconds
  python benchmarks/heads_digits.py run        # resumable; 25 runs of seconds
  python benchmarks/heads_digits.py draw

Wang et al. 2024, arXiv 2310.05615: C heads, whose similarities are each divided by a temperature of the
pair and the head (`adaptive_heads`); its tables say so of SimCLR on natural images with ResNet-18. Its
own code does not run, so nobody has checked. Here SimCLR as in benchmarks/initial_temperature.py, 64
dimensions a head. Arms:

  1 fixed      one head, a fixed τ
  1 adaptive   one head, a τ of each pair
  3 fixed      three heads, the sum of their similarities, a fixed τ
  3 adaptive   three heads, a τ of each pair and head: AMCL
  1 matched    one head of 3 · 64 dimensions, a fixed τ, and as many parameters as `3 adaptive`, by the
               width of the projection's hidden layer

`choose` takes for each fixed arm the best τ of 0.1, 0.2, 0.5, 1 and 2, for each adaptive one, which has no τ, the best weight of
the penalty on τ of 0.001, 0.01, 0.1, 1 and 10 (paper: 0.1), by one label per class of 200 held-out training
images under seed 100; of equals the first. `run` has seeds 0 to 4. Measures as in
benchmarks/initial_temperature.py: one label per class decides, kNN is the second.

Hypotheses, means over seeds, each by more than two standard errors of the difference paired by seed:
  heads      `3 fixed` is above `1 fixed`
  adaptive   the adaptive arms with 1 and 3 heads are, in their mean, above the fixed ones with 1 and 3
  more than its parameters   `3 adaptive` is above `1 matched`
A run counts if its loss is finite and its rank at least 3. Nothing is tested unless best and worst arm differ by
more than three standard errors.

Also read off: the mean τ of positives and of negatives, of one batch at the end.
"""

from __future__ import annotations

import functools
import pathlib
import sys

import jax
import numpy as np
from initial_temperature import COLUMNS, OUT, simclr, train
from symile_xor import cell, fill, heading, mean_error, read, values

from contrastax import data, temperatures
from contrastax.core import key_for
from contrastax.pairwise import adaptive_heads, cosine, multi_head

RESULTS = pathlib.Path(__file__).parent / "results" / "heads_digits.jsonl"
SEEDS, SELECTION_SEED = range(5), 100
TAUS, WEIGHTS = (0.1, 0.2, 0.5, 1.0, 2.0), (0.001, 0.01, 0.1, 1.0, 10.0)
ARMS = {
  "1 fixed": TAUS,
  "1 adaptive": WEIGHTS,
  "3 fixed": TAUS,
  "3 adaptive": WEIGHTS,
  "1 matched": TAUS,
}


def method_of(arm, choice):
  heads = int(arm[0])
  if arm.endswith("adaptive"):
    return simclr(
      out=heads * OUT,
      score=adaptive_heads(heads, regularizer=choice),
      temperature=temperatures.fixed(1.0),
    )
  tau = temperatures.fixed(choice)
  if arm == "1 matched":
    return simclr(hidden=matched(), out=3 * OUT, score=cosine(), temperature=tau)
  return simclr(out=heads * OUT, score=multi_head(heads), temperature=tau)


@functools.cache
def matched() -> int:
  """The hidden width at which a head of 3 · 64 dimensions has the parameters nearest to AMCL's."""
  aim = size(method_of("3 adaptive", 0.1))
  return min(
    range(128, 257), key=lambda h: abs(size(simclr(hidden=h, out=3 * OUT, score=cosine())) - aim)
  )


def size(method) -> int:
  batch = {
    name: values[:2] for name, values in {**data.load("digits").train, "index": np.arange(2)}.items()
  }  # fmt: skip
  params, _ = jax.eval_shape(method.init, jax.random.key(0), batch)
  counted = params["projection"], params["terms"]["contrast"]["score"]
  return sum(leaf.size for leaf in jax.tree.leaves(counted))


def measure(job) -> dict:
  digits = data.load("digits")
  if job["part"] == "trial":
    digits = data.hold_out(digits, 200)
  method = method_of(job["arm"], job["choice"])
  state, _, found = train(method, digits, job["seed"])
  if isinstance(method.score, adaptive_heads):
    found |= of_pairs(method, state, digits)
  return {**found, "parameters": size(method)}


def of_pairs(method, state, digits) -> dict:
  """The mean temperature of positive and of negative pairs of 256 training images."""
  batch = {
    **{name: values[:256] for name, values in digits.train.items()}, "index": np.arange(256)
  }  # fmt: skip
  key = key_for(0, "look")
  own = state.params["terms"]["contrast"], state.state["terms"]["contrast"]
  seen = method.seen(state.params, state.state, batch, key)
  anchors, _, _, compare = method.main.candidates(*own, seen, key)
  once = [
    method.score.prepare(compare.score_params, anchors.vectors, side) for side in (True, False)
  ]
  tau = np.asarray(method.score.temperatures(*once)[1]).mean(0)
  index, view = (np.asarray(anchors.side[name]) for name in ("index", "view"))
  same = index[:, None] == index
  return {
    "tau_positive": float(tau[same & (view[:, None] != view)].mean()),
    "tau_negative": float(tau[~same].mean()),
  }


def trials() -> list[dict]:
  return [
    {"part": "trial", "arm": arm, "choice": choice, "seed": SELECTION_SEED}
    for arm, choices in ARMS.items() for choice in choices
  ]  # fmt: skip


def chosen(arm) -> float:
  found = [r for r in read(RESULTS) if r["part"] == "trial" and r["arm"] == arm]
  if len(found) < len(ARMS[arm]):
    sys.exit("the trials are not all there; python benchmarks/heads_digits.py choose")
  return max(found, key=lambda r: r["linear_1"])["choice"]


def run() -> None:
  fill(
    RESULTS,
    [
      {"part": "run", "arm": arm, "choice": chosen(arm), "seed": seed}
      for arm in ARMS for seed in SEEDS
    ],
    measure,
  )  # fmt: skip


def draw() -> None:
  stand = read(RESULTS)
  of = {
    (arm, column): values(stand, column, part="run", arm=arm) for arm in ARMS for column in COLUMNS
  }
  runs = [r for r in stand if r["part"] == "run"]
  unsound = [r for r in runs if not r["finite"] or r["rank"] < 3]
  lines = [
    "# Heads with temperatures of their own, on digits", "", heading(stand), "",
    f"SimCLR on digits, 500 test images; {len(SEEDS)} seeds, mean ± standard error. Chosen: τ of a fixed arm, the "
    "penalty's weight of an adaptive one. Parameters: of projection and score.", "",
    "| arm | chosen | parameters | " + " | ".join(COLUMNS.values()) + " | τ of positives | of negatives |",
    "|---" * (5 + len(COLUMNS)) + "|",
  ]  # fmt: skip
  for arm in ARMS:
    mine = [r for r in runs if r["arm"] == arm]
    temperature = ["", ""]
    if "tau_positive" in mine[0]:
      temperature = [
        cell(np.array([r[key] for r in mine])) for key in ("tau_positive", "tau_negative")
      ]
    cells = [*(cell(of[arm, column]) for column in COLUMNS), *temperature]
    lines.append(f"| {arm} | {chosen(arm)} | {mine[0]['parameters']:,} | {' | '.join(cells)} |")
  lines += ["", f"Runs that do not count: {len(unsound) or 'none'}.", ""]
  for column, title in COLUMNS.items():
    lines.append(verdicts(title, {arm: of[arm, column] for arm in ARMS}))
  lines.append(
    f"- Added after the results: the penalty (d/2) log τ + 1/τ is least at τ = 2/d, {2 / OUT:.3f} with {OUT} dimensions, and "
    "draws the temperatures there; the best fixed one is far above."
  )
  RESULTS.with_suffix(".md").write_text("\n".join([*lines, ""]))
  print("\n".join(lines))


def verdicts(title, of) -> str:
  means = {arm: found.mean() for arm, found in of.items()}
  best, worst = max(means, key=means.get), min(means, key=means.get)
  spread, error = mean_error(of[best] - of[worst])
  told = {
    "heads": of["3 fixed"] - of["1 fixed"],
    "adaptive": (of["1 adaptive"] + of["3 adaptive"] - of["1 fixed"] - of["3 fixed"]) / 2,
    "more than its parameters": of["3 adaptive"] - of["1 matched"],
  }
  said = [f"- By {title}: {best} is above {worst} by {spread:.3f} ± {error:.3f}."]
  for name, difference in told.items():
    lead, e = mean_error(difference)
    verdict = "the hypothesis " + ("holds" if lead > 2 * e else "does not hold")
    said.append(
      f"{name}: {lead:+.3f} ± {e:.3f}; {verdict if spread > 3 * error else 'not tested'}."
    )
  return " ".join(said)


if __name__ == "__main__":
  if sys.argv[1:] == ["choose"]:
    fill(RESULTS, trials(), measure)
  elif sys.argv[1:] == ["run"]:
    run()
  elif sys.argv[1:] == ["draw"]:
    draw()
  else:
    sys.exit("say what to do: choose, run or draw")
