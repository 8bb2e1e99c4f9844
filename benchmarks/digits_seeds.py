"""The README's run on five seeds: is the trained space better at few labels, and by how much?

  python benchmarks/digits_seeds.py

Hypothesis: on each seed the row `trained` is above `raw` and `untrained` by at least 0.05
at 1 and at 5 labels per class; its means over the seeds are at least 0.75 and 0.93.
Arms: seeds 0 to 4 of configs/digits_simclr.py, unchanged; about a minute each. It counts
if all five runs end. Configs were chosen on 200 held-out training images
(--config.validation=200), never on the test images that are read here.

Writes results/digits_seeds.jsonl (a line per seed; seeds that are there are not run again)
and results/digits_seeds.md; exits with 1 if the hypothesis does not hold.
"""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

from contrastax.experiments.workdir import circumstances

HERE = pathlib.Path(__file__).parent
RESULTS = HERE / "results" / "digits_seeds.jsonl"
COMMAND = [
  sys.executable,
  "-m",
  "experiments.run",
  f"--config={HERE.parent}/configs/digits_simclr.py",
]
ROWS, COLUMNS = ("raw", "untrained", "trained"), ("knn", "linear_1", "linear_5", "linear")


def measure(seed: int) -> dict:
  with tempfile.TemporaryDirectory() as folder:
    subprocess.run([*COMMAND, f"--config.seed={seed}", f"--workdir={folder}/run"], check=True)
    summary = json.loads(pathlib.Path(folder, "run", "summary.json").read_text())
  return {
    "seed": seed,
    **summary,
    "circumstances": circumstances("python benchmarks/digits_seeds.py"),
  }


def report(runs: list[dict]) -> bool:
  values = np.array([[[run["table"][r][c] for c in COLUMNS] for r in ROWS] for run in runs])
  mean, error = values.mean(0), values.std(0, ddof=1) / len(runs) ** 0.5
  few = values[:, :, 1:3]
  margin = (few[:, 2] - few[:, :2].max(1)).min(0)
  reached = mean[2, 1:3]
  holds = bool((margin >= 0.05).all() and reached[0] >= 0.75 and reached[1] >= 0.93)
  lines = [
    f"Digits, five seeds, mean ± standard error over seeds; {runs[0]['circumstances']['machine']}.",
    "",
    "| row | " + " | ".join(COLUMNS) + " |",
    "|---|" + "---|" * len(COLUMNS),
    *(
      f"| {row} | "
      + " | ".join(f"{m:.3f} ± {e:.3f}" for m, e in zip(mean[i], error[i], strict=True))
      + " |"
      for i, row in enumerate(ROWS)
    ),
    "",
    f"Smallest lead of `trained` over the better of the others, of any seed: {margin[0]:.3f} at 1 label, "
    f"{margin[1]:.3f} at 5. The hypothesis {'holds' if holds else 'does not hold'}.",
  ]
  RESULTS.with_suffix(".md").write_text("\n".join(lines) + "\n")
  print("\n".join(lines))
  return holds


def main() -> int:
  RESULTS.parent.mkdir(exist_ok=True)
  runs = [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []
  for seed in sorted(set(range(5)) - {run["seed"] for run in runs}):
    runs.append(measure(seed))
    with open(RESULTS, "a") as file:
      file.write(json.dumps(runs[-1]) + "\n")
  return 0 if report(sorted(runs, key=lambda run: run["seed"])) else 1


if __name__ == "__main__":
  sys.exit(main())
