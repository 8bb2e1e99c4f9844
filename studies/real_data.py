"""What the example configs on glyphs and docstrings learn, which need no download.

Arms: configs/glyphs_clip.py, configs/glyphs_fonts.py and configs/docstrings_clip.py, unchanged, each
in a process of its own. One seed. The hyperparameters were chosen without the test examples, which
are used here.

Hypotheses:
  matches     in the two runs of CLIP, recall@10 of the test examples is at least 5 times that of
              chance: an input finds its own text among the texts of all test examples
  fonts       in glyphs_fonts, recall@1 of the encoder is at least 0.05 better than that of pixels: a
              test image finds the same character in another font among all test images

Wall times are not recorded, because other programs ran on the machine at the same time.
"""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

import contrastax
from contrastax import evaluation, views
from contrastax.experiments.build import build
from contrastax.experiments.workdir import config_of
from contrastax.pairwise import cosine, top_k
from contrastax.training import make_mesh
from studies.common.records import Records, read
from studies.common.report import Verdict, table
from studies.common.study import Study, grid

CONFIGS = pathlib.Path(__file__).parents[1] / "configs"
NAMES = ("docstrings_clip", "glyphs_clip", "glyphs_fonts")
COLUMNS = {"knn": "kNN", "linear_1": "1 label per class", "linear": "linear"}
KS = (1, 10)


def measure(job):
  with tempfile.TemporaryDirectory() as folder:
    workdir = pathlib.Path(folder, "run")
    path = CONFIGS / f"{job['config']}.py"
    command = [sys.executable, "-m", "experiments.run", f"--config={path}"]
    subprocess.run([*command, f"--workdir={workdir}"], check=True)
    summary = json.loads((workdir / "summary.json").read_text())
    return {"table": summary["table"], "steps": summary["steps"], **retrieved(workdir)}


def retrieved(workdir: pathlib.Path) -> dict:
  """Returns recall@k of the test examples of a run."""
  parts = build(config_of(workdir), make_mesh())
  method, test = parts.method, parts.dataset.test

  def embed(inputs, *networks):
    for name in networks:
      network = contrastax.load(
        workdir, network=name, encoder=method.network(name), inputs=inputs[:1]
      )
      inputs = np.asarray(network(inputs))
    return inputs

  one, other = method.inputs
  if other not in test:  # The other font comes with the batch.
    spaces = {"raw": views.to_float(test[one]), "trained": embed(test[one], "encoder")}
    flat = {name: np.asarray(space).reshape(len(space), -1) for name, space in spaces.items()}
    found = {n: evaluation.retrieval(x, test["character"], ks=KS) for n, x in flat.items()}
    return {"fonts": found, "queries": len(test[one])}
  texts, number = np.unique(test["text"], axis=0, return_inverse=True)
  inputs = {name: texts if name == "text" else test[name] for name in (one, other)}
  z = {
    one: embed(inputs[one], "encoder", "projection"),
    other: embed(inputs[other], "other_encoder", "other_projection"),
  }
  query = other if one == "text" else one
  _, nearest = top_k(z[query], z["text"], max(KS), score=cosine())
  hit = np.asarray(nearest) == number[:, None]
  recall = {f"recall@{k}": float(hit[:, :k].any(1).mean()) for k in KS}
  return {"matches": recall, "queries": len(hit), "texts": len(texts)}


def report(records):
  yield (
    "Accuracy of the kinds of test examples (scripts of characters, modules of code) on the trained "
    "encoder, and retrieval; one seed."
  )
  rows = [
    [f"`{r['config']}`", *(f"{r['table']['trained'][column]:.3f}" for column in COLUMNS)]
    for r in records
  ]
  yield table(["config", *COLUMNS.values()], rows)
  clips = [record for record in records if "matches" in record]
  rows = [
    [f"`{r['config']}`", f"{r['queries']:,}", f"{r['texts']:,}"]
    + [f"{r['matches'][f'recall@{k}']:.3f}" for k in KS]
    for r in clips
  ]
  yield table(["config", "queries", "texts", *(f"recall@{k}" for k in KS)], rows)
  (fonts,) = records.where(config="glyphs_fonts")
  rows = [
    [space, *(f"{found[f'recall@{k}']:.3f}" for k in KS), f"{found['map@r']:.3f}"]
    for space, found in fonts["fonts"].items()
  ]
  yield table(["`glyphs_fonts`: the same character", *(f"recall@{k}" for k in KS), "mAP@R"], rows)
  ratios = {r["config"]: r["matches"]["recall@10"] * r["texts"] / 10 for r in clips}
  least = min(ratios, key=ratios.get)
  yield Verdict(
    "matches", f"the smallest ratio to chance is {ratios[least]:.0f} ({least}; at least 5)",
    ratios[least] >= 5,
  )  # fmt: skip
  lead = fonts["fonts"]["trained"]["recall@1"] - fonts["fonts"]["raw"]["recall@1"]
  yield Verdict("fonts", f"the difference is {lead:+.3f} (at least 0.05)", lead >= 0.05)


def results(records: Records) -> dict:
  """The entries of configs/results.json."""
  found = {}
  for record in records:
    if "table" in record:
      trained = record["table"]["trained"]
      accuracy = {name: round(trained[column], 3) for column, name in COLUMNS.items()}
      retrieval = record.get("matches") or record["fonts"]["trained"]
      accuracy["recall@10"] = round(retrieval["recall@10"], 3)
      found[record["config"]] = {"accuracy": accuracy}
  return found


STUDY = Study(
  "real_data", "The example configs on glyphs and docstrings", measure=measure, report=report,
  stages=[lambda _: grid(config=NAMES)],
)  # fmt: skip


def entries() -> dict:
  """The entries of configs/results.json, from the committed records."""
  return results(read(STUDY.path))
