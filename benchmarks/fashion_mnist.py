"""Fashion-MNIST through TFDS: one run of five minutes on two cores, judged at few labels.

  python benchmarks/prepare_datasets.py fashion_mnist
  python benchmarks/fashion_mnist.py

Hypothesis: after one run of configs/fashion_mnist_simclr.py, seed 0, the row `trained` is above
`raw` and `untrained` at 1 and at 5 labels per class on the test images; aim by 0.05. It counts
if the run ends. Differences are taken draw by draw over the 20 fixed draws of labels and
given with a 95 % interval (t, 19 degrees of freedom): how sure the mean over draws of labels
is, for this one trained encoder; another seed of training is not in it. kNN is reported. The
config was chosen on 5,000 held-out training images (--config.validation=5000).

Writes results/fashion_mnist.json and results/fashion_mnist.md; exits with 1 if the
hypothesis does not hold. Resumable: the run lies in runs/fashion_mnist_simclr.
"""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys

import numpy as np
from scipy import stats

import contrastax
from contrastax import evaluation, training
from contrastax.experiments import commandline
from contrastax.experiments.build import build
from contrastax.experiments.workdir import circumstances

HERE = pathlib.Path(__file__).parent
CONFIG = HERE.parent / "configs" / "fashion_mnist_simclr.py"
WORKDIR = pathlib.Path("runs") / "fashion_mnist_simclr"
RESULTS = HERE / "results" / "fashion_mnist.json"
ROWS = ("raw", "untrained", "trained")


def features(parts, mesh, seed) -> dict[str, list[np.ndarray]]:
  """{row: [training, test]}, the run's own rows."""
  images = [split["image"] for split in (parts.dataset.train, parts.dataset.test)]
  fresh = training.init(parts.method, parts.optimizer, parts.source.batch(0), seed=seed, mesh=mesh)
  untrained = parts.method.encoder, fresh.params["encoder"], fresh.state["encoder"]
  trained = contrastax.load(WORKDIR)
  return {
    "raw": [each.reshape(len(each), -1) / np.float32(255) for each in images],
    "untrained": [evaluation.embed(*untrained, each) for each in images],
    "trained": [trained(each) for each in images],
  }


def main() -> int:
  command = [sys.executable, "-m", "experiments.run", f"--config={CONFIG}", f"--workdir={WORKDIR}"]
  subprocess.run(command, check=True)
  config, mesh = commandline.parse(["run", f"--config={CONFIG}"], "").config, training.make_mesh()
  parts = build(config, mesh)
  labels = parts.dataset.train["label"], parts.dataset.test["label"]
  draws = {
    row: {
      k: evaluation.few_label(ours, labels[0], theirs, labels[1], per_class=k).tolist()
      for k in (1, 5)
    }
    for row, (ours, theirs) in features(parts, mesh, config.seed).items()
  }
  summary = json.loads((WORKDIR / "summary.json").read_text())
  lines = [
    "| labels per class | raw | untrained | trained | trained − raw | trained − untrained |",
    "|---|---|---|---|---|---|",
  ]
  holds = True
  for k in (1, 5):
    mean = {row: np.mean(draws[row][k]) for row in ROWS}
    cells = [f"{mean[row]:.3f}" for row in ROWS]
    for other in ("raw", "untrained"):
      difference = np.subtract(draws["trained"][k], draws[other][k])
      reach = stats.t.ppf(0.975, len(difference) - 1) * stats.sem(difference)
      cells.append(f"{difference.mean():+.3f} ± {reach:.3f}")
      holds &= bool(difference.mean() > 0)
    lines.append(f"| {k} | " + " | ".join(cells) + " |")
  knn = ", ".join(f"{row} {summary['table'][row]['knn']:.3f}" for row in ROWS)
  lines += ["", f"kNN with all labels: {knn}. Training took {summary['train_seconds']:.0f} s."]
  lines += ["", f"The hypothesis {'holds' if holds else 'does not hold'}."]
  result = {
    "draws": draws,
    **summary,
    "circumstances": circumstances("python benchmarks/fashion_mnist.py"),
  }
  RESULTS.parent.mkdir(exist_ok=True)
  RESULTS.write_text(json.dumps(result, indent=1) + "\n")
  machine = result["circumstances"]["machine"]
  heading = f"Fashion-MNIST, one run, 20 draws of labels, mean and 95 % interval; {machine}."
  RESULTS.with_suffix(".md").write_text("\n".join([heading, "", *lines]) + "\n")
  print("\n".join(lines))
  return 0 if holds else 1


if __name__ == "__main__":
  sys.exit(main())
