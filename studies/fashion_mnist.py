"""Fashion-MNIST through TFDS: one run of five minutes on two cores, judged at few labels.

Arm: one run of configs/fashion_mnist_simclr.py, seed 0, in runs/fashion_mnist_simclr, where it
resumes. The config was chosen on 5,000 held-out training images (--config.validation=5000).
`contrastax prepare fashion_mnist` prepares the data.

Hypothesis:
  few labels   the row `trained` is above `raw` and `untrained` at 1 and at 5 labels per class on
               the test images; the aim is 0.05

Differences are taken draw by draw over the 20 fixed draws of labels, and have a 95 % interval (t,
19 degrees of freedom). The interval tells how sure the mean over draws of labels is for this one
trained encoder; it does not cover other seeds of the training.
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
from studies.common import fit
from studies.common.report import Verdict, table
from studies.common.study import Study

CONFIG = pathlib.Path(__file__).parents[1] / "configs" / "fashion_mnist_simclr.py"
WORKDIR = pathlib.Path("runs") / "fashion_mnist_simclr"
ROWS = ("raw", "untrained", "trained")


def measure(job):
  command = [sys.executable, "-m", "experiments.run", f"--config={CONFIG}", f"--workdir={WORKDIR}"]
  subprocess.run(command, check=True)
  config, mesh = commandline.parse(["run", f"--config={CONFIG}"], "").config, training.make_mesh()
  parts = build(config, mesh)
  fresh = training.init(
    parts.method, parts.optimizer, parts.source.batch(0), seed=config.seed, mesh=mesh
  )
  rows = {
    "raw": lambda x: x.reshape(len(x), -1) / np.float32(255),
    "untrained": lambda x: fit.embed(parts.method, fresh, x),
    "trained": contrastax.load(WORKDIR),
  }
  draws = {}
  for row, embed in rows.items():
    split = fit.sets(parts.dataset, map(embed, (x["image"] for x in parts.dataset[:2])))
    draws[row] = {k: evaluation.few_label(*split, per_class=k).tolist() for k in (1, 5)}
  return {"draws": draws, **json.loads((WORKDIR / "summary.json").read_text())}


def report(records):
  (found,) = records
  draws, rows, least = found["draws"], [], []
  for k in ("1", "5"):
    cells = [f"{np.mean(draws[row][k]):.3f}" for row in ROWS]
    for other in ROWS[:2]:
      difference = np.subtract(draws["trained"][k], draws[other][k])
      reach = stats.t.ppf(0.975, len(difference) - 1) * stats.sem(difference)
      cells.append(f"{difference.mean():+.3f} ± {reach:.3f}")
      least.append(difference.mean())
    rows.append([k, *cells])
  yield "One run, 20 draws of labels, mean and 95 % interval."
  yield table(
    ["labels per class", *ROWS, "trained − raw", "trained − untrained"], rows
  )  # fmt: skip
  knn = ", ".join(f"{row} {found['table'][row]['knn']:.3f}" for row in ROWS)
  yield f"kNN with all labels: {knn}. Training took {found['train_seconds']:.0f} s."
  yield Verdict("few labels", f"the smallest difference is {min(least):+.3f}", min(least) > 0)


STUDY = Study(
  "fashion_mnist", "Fashion-MNIST in one run", measure=measure, report=report,
  stages=[lambda _: [{}]], suffix=".json",
)  # fmt: skip
