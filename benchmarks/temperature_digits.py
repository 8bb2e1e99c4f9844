"""What does the temperature do to a space, and does it still matter among hard negatives?

  python benchmarks/temperature_digits.py run
  python benchmarks/temperature_digits.py draw

Wang & Liu 2021, arXiv 2012.09740: a small τ spreads examples evenly and tears classes apart, a
large one does the opposite, so the ordinary loss is best in between; a loss that keeps only the
hardest negatives does well at large τ too. Here on digits, 500 test images.

Hypothesis, means over 5 seeds; uniformity is `evaluation.uniformity`, where lower is evener (the
paper prints its negative), tolerance `evaluation.tolerance`, both of the projections z:
  space    under `losses.nt_xent` uniformity and tolerance both rise from each τ to the next;
  peak     its kNN accuracy has an inverted U: the best τ is not at an end and is above τ = 0.05 and
           τ = 1 by more than two standard errors of the paired difference;
  hard     from τ = 0.3 on the accuracies of `losses.hard_quantile` differ by less than half as
           much (largest mean less smallest) as those of nt_xent.

Arms: both losses at τ = 0.05, 0.1, 0.2, 0.3, 0.5 and 1, seeds 0 to 4.

Counts only if nt_xent at its best τ is in the mean above the untrained encoders by kNN; else
nothing is tested. `peak` counts only if nt_xent's best and worst τ differ by more than two
standard errors of the paired difference; `hard` only if nt_xent's accuracies from τ = 0.3 on
differ by 0.005 at least, for otherwise there is nothing to be insensitive to. Else: not tested.
kNN decides, and is near its ceiling on digits; so `peak` and `hard` are given for one label per
class as well (`evaluation.few_label`, 20 draws), by the same rules, and reported as the second measure.

Budget: networks, views and optimizer of benchmarks/views_rank.py; two views of 128 examples, 400 steps,
so 254 negatives; a few seconds a run. The share of negatives that is kept, α, is the best of
0.03, 0.08 and 0.2 by kNN at τ = 0.3 on 200 held-out training images under seed 100; of equals the
largest. Both accuracies are of h, before the projection.

Added after these results, because `space` fails at the smallest τ: nt_xent at the three smallest τ with
four times the steps, seed 0, to see whether the budget is the reason. No part of the hypothesis.

Results go to results/temperature_digits.jsonl line by line; what stands there is not run again.
"""

from __future__ import annotations

import functools
import pathlib
import sys

import numpy as np
from symile_xor import cell, fill, heading, mean_error, read, values
from views_rank import dataset, embed, init, train

from contrastax import evaluation, losses

RESULTS = pathlib.Path(__file__).parent / "results" / "temperature_digits.jsonl"
TEMPERATURES, ALPHAS = (0.05, 0.1, 0.2, 0.3, 0.5, 1.0), (0.2, 0.08, 0.03)
EXAMPLES, STEPS, SEEDS, SELECTION_SEED, SELECTION_TEMPERATURE = 128, 400, range(5), 100, 0.3
LONGER = 4 * STEPS
LOSSES = ("nt_xent", "hard_quantile")
COLUMNS = {
  "knn": "kNN",
  "linear_1": "1 label per class",
  "uniformity": "uniformity of z",
  "tolerance": "tolerance of z",
}


@functools.cache
def loss(name: str, alpha: float | None):
  def of_views(z, temperature):
    if name == "nt_xent":
      return losses.nt_xent(*z, temperature=temperature)
    return losses.hard_quantile(*z, temperature=temperature, alpha=alpha)

  return of_views


def measure(job) -> dict:
  digits = dataset(job["part"] == "select")
  images, seed = digits.train["image"], job["seed"]
  if job["part"] == "untrained":
    networks = init(images, seed)
  else:
    networks = train(
      loss(job["loss"], job["alpha"]), job["temperature"], images, count=2,
      examples=EXAMPLES, steps=job.get("steps", STEPS), seed=seed,
    )  # fmt: skip
  (h, _), (test_h, test_z) = (
    embed(*networks, split["image"]) for split in (digits.train, digits.test)
  )
  split = h, digits.train["label"], test_h, digits.test["label"]
  if job["part"] == "select":
    return {"knn": evaluation.knn(*split)}
  return {
    "knn": evaluation.knn(*split),
    "linear_1": float(evaluation.few_label(*split, per_class=1).mean()),
    "uniformity": float(evaluation.uniformity(test_z)),
    "tolerance": float(evaluation.tolerance(test_z, digits.test["label"])),
  }


def run():
  fill(RESULTS, [{"part": "untrained", "seed": seed} for seed in SEEDS], measure)
  select = [
    {
      **arm("hard_quantile", SELECTION_TEMPERATURE, alpha),
      "part": "select",
      "seed": SELECTION_SEED,
    }
    for alpha in ALPHAS
  ]
  fill(RESULTS, select, measure)
  kept = {"nt_xent": None, "hard_quantile": selected(read(RESULTS))}
  jobs = [
    {**arm(name, tau, kept[name]), "seed": seed}
    for name in LOSSES
    for tau in TEMPERATURES
    for seed in SEEDS
  ]
  jobs += [
    {**arm("nt_xent", tau, None), "part": "longer", "steps": LONGER, "seed": 0}
    for tau in TEMPERATURES[:3]
  ]
  fill(RESULTS, jobs, measure)


def arm(name, temperature, alpha) -> dict:
  return {"part": "run", "loss": name, "temperature": temperature, "alpha": alpha}


def selected(stand) -> float:
  def knn(alpha):
    return values(stand, "knn", part="select", alpha=alpha)[0]

  return max(ALPHAS, key=knn)


def draw():
  from matplotlib.figure import Figure

  stand = read(RESULTS)
  alpha = selected(stand)
  of = {
    (name, column): np.stack(
      [values(stand, column, part="run", loss=name, temperature=tau) for tau in TEMPERATURES], 1
    )  # [seeds, temperatures]
    for name in LOSSES
    for column in COLUMNS
  }
  untrained = {column: values(stand, column, part="untrained") for column in COLUMNS}
  lines = [
    "# Temperature on digits", "", heading(stand), "",
    f"500 test images; 5 seeds, mean ± standard error. hard_quantile keeps α = {alpha} of 254 negatives.", "",
    "| loss | τ | " + " | ".join(COLUMNS.values()) + " |", "|---" * 6 + "|",
  ]  # fmt: skip
  for name in LOSSES:
    for place, tau in enumerate(TEMPERATURES):
      cells = [cell(of[name, column][:, place]) for column in COLUMNS]
      lines.append(f"| {name} | {tau} | " + " | ".join(cells) + " |")
  cells = [cell(untrained[column]) for column in COLUMNS]
  lines += ["| untrained | – | " + " | ".join(cells) + " |", ""]
  lines += [
    f"{verdict(of, untrained)} {longer(stand)}",
    "",
    "![all against τ](temperature_digits.png)",
    "",
  ]
  RESULTS.with_suffix(".md").write_text("\n".join(lines))

  figure = Figure(figsize=(10, 6.4), layout="constrained")
  labels = {"nt_xent": "nt_xent", "hard_quantile": f"hard_quantile, α = {alpha}"}
  for axis, (column, title) in zip(figure.subplots(2, 2).flat, COLUMNS.items(), strict=True):
    for place, name in enumerate(LOSSES):
      mean, error = mean_error(of[name, column])
      axis.errorbar(TEMPERATURES, mean, error, marker="os"[place], capsize=3, label=labels[name])
    axis.axhline(
      untrained[column].mean(), color="gray", linestyle=":", linewidth=1, label="untrained"
    )
    axis.set_xscale("log")
    axis.set_xticks(TEMPERATURES, TEMPERATURES)
    axis.minorticks_off()
    axis.set(title=title, xlabel="τ")
    axis.grid(alpha=0.3)
  figure.axes[0].legend(fontsize=8)
  figure.savefig(RESULTS.with_suffix(".png"), dpi=110)
  print("\n".join(lines))


def verdict(of, untrained) -> str:
  means = {key: found.mean(0) for key, found in of.items()}
  best = means["nt_xent", "knn"].max()
  if best <= untrained["knn"].mean():
    return "Not tested: the ordinary loss is at no τ above the untrained encoders by kNN."
  falls = {
    column: [
      f"{a} to {b}"
      for a, b, step in zip(
        TEMPERATURES, TEMPERATURES[1:], np.diff(means["nt_xent", column]), strict=False
      )
      if step <= 0
    ]
    for column in ("uniformity", "tolerance")
  }
  said = [
    f"{column} {'rises at each step' if not where else 'does not rise from ' + ', '.join(where)}"
    for column, where in falls.items()
  ]
  holds = "holds" if not any(falls.values()) else "does not hold"
  lines = [f"`space` {holds}: under nt_xent {' and '.join(said)}."]
  for column in ("knn", "linear_1"):
    lines.append(f"By {COLUMNS[column]}: {peak(of['nt_xent', column])}; {hard(of, column)}.")
  level = " and ".join(
    f"{means['hard_quantile', column][-1]:.3f} and {means['nt_xent', column][-1]:.3f} ({COLUMNS[column]})"
    for column in ("knn", "linear_1")
  )
  lines.append(f"At τ = 1 hard_quantile and nt_xent reach {level}.")
  return " ".join(lines)


def longer(stand) -> str:
  found = [
    values(stand, "uniformity", part="longer", temperature=tau)[0] for tau in TEMPERATURES[:3]
  ]
  said = ", ".join(f"{u:.2f} at τ = {tau}" for u, tau in zip(found, TEMPERATURES, strict=False))
  return (
    f"Added after these results: with {LONGER} steps, seed 0, uniformity under nt_xent is {said}, so four "
    f"times the steps {'do not mend' if found[1] <= found[0] else 'mend'} the order of the smallest two."
  )


def peak(found) -> str:
  """Of accuracies [seeds, temperatures]."""
  mean = found.mean(0)
  top, low = mean.argmax(), mean.argmin()
  difference, error = mean_error(found[:, top] - found[:, low])
  said = f"nt_xent is best at τ = {TEMPERATURES[top]}, by {difference:.3f} ± {error:.3f} over its worst, {TEMPERATURES[low]}"
  if difference <= 2 * error:
    return f"{said}, so `peak` is not tested"
  if top in (0, len(mean) - 1):
    return f"{said}; the best is an end of the range, so `peak` does not show"
  leads = [mean_error(found[:, top] - found[:, end]) for end in (0, -1)]
  ends = " and ".join(
    f"{lead:+.3f} ± {error:.3f} over τ = {TEMPERATURES[end]}"
    for (lead, error), end in zip(leads, (0, -1), strict=True)
  )
  shown = all(lead > 2 * error for lead, error in leads)
  return f"{said} ({ends}), so `peak` {'holds' if shown else 'does not show'}"


def hard(of, column) -> str:
  first = TEMPERATURES.index(0.3)
  ordinary, hard = (np.ptp(of[name, column].mean(0)[first:]) for name in LOSSES)
  said = (
    f"from τ = 0.3 on the accuracies of nt_xent span {ordinary:.3f}, of hard_quantile {hard:.3f}"
  )
  if ordinary < 0.005:
    return f"{said}, so `hard` is not tested"
  return f"{said}, so `hard` {'holds' if hard < ordinary / 2 else 'does not show'}"


if __name__ == "__main__":
  if sys.argv[1:] not in (["run"], ["draw"]):
    sys.exit("say what to do: run or draw")
  {"run": run, "draw": draw}[sys.argv[1]]()
