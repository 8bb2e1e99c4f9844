"""The README's run on five seeds: is the trained space better at few labels, and by how much?

Arms: seeds 0 to 4 of configs/digits_simclr.py, unchanged; about a minute each. The config was
chosen on 200 held-out training images (--config.validation=200), never on the test images, which
are used here.

Hypotheses:
  lead      on each seed the row `trained` is above `raw` and `untrained` by at least 0.05, at 1 and
            at 5 labels per class
  level     its means over the seeds are at least 0.75 at 1 label and 0.93 at 5
"""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys
import tempfile

from studies.common.report import Verdict, estimate, table
from studies.common.study import Study, grid

CONFIG = pathlib.Path(__file__).parents[1] / "configs" / "digits_simclr.py"
ROWS, COLUMNS = ("raw", "untrained", "trained"), ("knn", "linear_1", "linear_5", "linear")


def measure(job):
  with tempfile.TemporaryDirectory() as folder:
    run = [sys.executable, "-m", "experiments.run", f"--config={CONFIG}"]
    options = [f"--config.seed={job['seed']}", f"--workdir={folder}/run"]
    subprocess.run([*run, *options], check=True)
    return json.loads(pathlib.Path(folder, "run", "summary.json").read_text())


def report(records):
  of = {(row, column): records.values(lambda r, row=row, c=column: r["table"][row][c])
        for row in ROWS for column in COLUMNS}  # fmt: skip
  yield "Digits, five seeds, mean ± standard error over seeds."
  yield table(
    ["row", *COLUMNS], [[r, *(f"{estimate(of[r, c]):.3f}" for c in COLUMNS)] for r in ROWS]
  )
  leads = [min((of["trained", c] - of[r, c]).min() for r in ROWS[:2]) for c in COLUMNS[1:3]]
  levels = [of["trained", c].mean() for c in COLUMNS[1:3]]
  yield Verdict(
    "lead", "the smallest lead of `trained` over the better of the others, of any seed, is "
    f"{leads[0]:.3f} at 1 label per class and {leads[1]:.3f} at 5 (at least 0.05)",
    min(leads) >= 0.05,
  )  # fmt: skip
  yield Verdict(
    "level", f"the means are {levels[0]:.3f} (at least 0.75) and {levels[1]:.3f} (at least 0.93)",
    levels[0] >= 0.75 and levels[1] >= 0.93,
  )  # fmt: skip


STUDY = Study(
  "digits_seeds", "Digits on five seeds", measure=measure, report=report,
  stages=[lambda _: grid(seed=range(5))],
)  # fmt: skip
