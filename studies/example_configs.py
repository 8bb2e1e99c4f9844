"""What the example configs on digits reach, and how long they take: the list of `contrastax configs`.

Arms: each configs/digits_*.py, unchanged, in a process of its own, with the compilation cache off.
One seed; about a minute each on two cores while nothing else runs. The hyperparameters were chosen
without the test images, which are used here.

Hypotheses:
  learns    in each run the linear probe with 1 label per class is at least 0.05 better on the trained
            encoder than on the untrained one

`python -m studies.example_configs` writes configs/results.json from these records and those of
`real_data`.
"""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

from contrastax.files import write_json
from studies import real_data
from studies.common.records import Records, read
from studies.common.report import Verdict, table
from studies.common.study import Study, grid

CONFIGS = pathlib.Path(__file__).parents[1] / "configs"
NAMES = sorted(p.stem for p in CONFIGS.glob("digits_*.py"))
COLUMNS = {"knn": "kNN", "linear_1": "1 label per class", "linear": "linear"}


def measure(job):
  start = time.perf_counter()
  with tempfile.TemporaryDirectory() as folder:
    command = [sys.executable, "-m", "experiments.run", f"--config={CONFIGS}/{job['config']}.py"]
    off = os.environ | {"JAX_ENABLE_COMPILATION_CACHE": "false"}
    subprocess.run([*command, f"--workdir={folder}/run"], check=True, env=off)
    wall = time.perf_counter() - start
    return {"wall": wall, **json.loads(pathlib.Path(folder, "run", "summary.json").read_text())}


def report(records):
  yield "Accuracy on the test images of the trained encoder, one seed, and wall time of the whole run."
  rows, leads = [], {}
  for record in records.where(data="digits"):
    found = record["table"]
    leads[record["config"]] = found["trained"]["linear_1"] - found["untrained"]["linear_1"]
    accuracies = [f"{found['trained'][column]:.3f}" for column in COLUMNS]
    rows.append([f"`{record['config']}`", *accuracies, f"{record['wall']:.0f}"])
  yield table(["config", *COLUMNS.values(), "seconds"], rows)
  least = min(leads, key=leads.get)
  yield Verdict(
    "learns", f"the smallest difference is {leads[least]:.3f} ({least}; at least 0.05)",
    leads[least] >= 0.05,
  )  # fmt: skip


def results(records: Records) -> dict:
  """The entries of configs/results.json."""
  found: dict = {"machine": records.starts[0]["machine"]}
  for record in records.where(data="digits"):
    trained = record["table"]["trained"]
    accuracy = {name: round(trained[column], 3) for column, name in COLUMNS.items()}
    found[record["config"]] = {"accuracy": accuracy, "seconds": round(record["wall"])}
  return found


STUDY = Study(
  "example_configs", "The example configs on digits", measure=measure, report=report,
  stages=[lambda _: grid(config=NAMES)],
)  # fmt: skip

if __name__ == "__main__":
  write_json(CONFIGS / "results.json", results(read(STUDY.path)) | real_data.entries())
