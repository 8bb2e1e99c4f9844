"""What do the library's own layers cost? Step and compile time of one checkout over another's.

  git worktree add ../old COMMIT
  python -m benchmarks.plumbing --old=../old --new=.
  python -m benchmarks.plumbing --old=../old --new=. --pairs=2 --steps=2 --compiles=2 --out=x.jsonl

SimCLR, MoCo and BYOL on digits, batch 256, with the networks and views of configs/digits_*.py. Each
checkout has a process of its own, which waits while the other measures. A pair is one measurement
of each, in alternating order, and its ratio is new over old:

  step      the mean time of one train step in a block of STEPS, on a batch that is ready
  compile   the time from the method to the compiled step, with the compilation cache off and
            nothing kept from earlier compilations: tracing, lowering and XLA
  trace     the part of it before XLA: tracing and lowering

Bounds, on the median ratio of each method: step at most 1.02, compile at most 1.10. Run it while
nothing else runs. benchmarks/plumbing_worker.py builds the methods by code that both checkouts can
run.

Writes results/plumbing.jsonl (replaced in each run) and results/plumbing.md.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import statistics
import subprocess
import sys

from benchmarks.common import Worker, ratios
from benchmarks.plumbing_worker import METHODS
from contrastax.experiments.workdir import circumstances
from studies.common.records import Records, append, read
from studies.common.report import table

HERE = pathlib.Path(__file__).parent
RESULTS = HERE / "results" / "plumbing.jsonl"
BOUNDS = {"step": 1.02, "compile": 1.10}
PLAIN = {"JAX_ENABLE_COMPILATION_CACHE": "0", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}


def measure(paths, pairs, steps, compiles):
  """Returns {(method, what): {"old": seconds of each pair, "new": the same}}."""
  worker = str(HERE / "plumbing_worker.py")
  sides = {
    side: Worker([worker, str(path)], PYTHONPATH=str(path), **PLAIN) for side, path in paths.items()
  }
  found = {}
  # The first compilation warms the process up, and the first block the step.
  plan = [(0, False)] + [(0, True)] * compiles + [(steps, False)] + [(steps, True)] * pairs
  for number, (count, kept) in enumerate(plan):
    for name in METHODS:
      for side in list(sides)[:: 1 if number % 2 else -1]:
        for what, seconds in sides[side].ask(f"{name} {count}").items():
          if kept:
            found.setdefault((name, what), {"old": [], "new": []})[side].append(seconds)
  for each in sides.values():
    each.end()
  return found


def summarize(name, what, seconds):
  """Returns the record of a method and measurement: the median ratio new/old, its quartiles."""
  each = ratios(seconds["new"], seconds["old"])
  low, middle, high = statistics.quantiles(each, n=4)
  return {
    "kind": "ratio", "method": name, "what": what, "ratio": middle, "quartiles": [low, high],
    "pairs": len(each), "bound": BOUNDS.get(what), "seconds": seconds,
  }  # fmt: skip


def page(records: Records) -> str:
  (where,), rows = records.where(kind="circumstances"), []
  commits = ", ".join(f"{side} {commit}" for side, commit in where["commits"].items())
  named = ", ".join(f"{name} {where['versions'][name]}" for name in ("jax", "jaxlib", "optax"))
  for r in records.where(kind="ratio"):
    old, new = (1000 * statistics.median(r["seconds"][side]) for side in ("old", "new"))
    spread = " to ".join(f"{x:.3f}" for x in r["quartiles"])
    cells = [f"{r['ratio']:.3f}", spread, r["bound"] or "", r["pairs"], f"{old:.1f}", f"{new:.1f}"]
    rows.append([r["method"], r["what"], *cells])
  header = ["method", "what", "ratio, median", "quartiles", "bound", "pairs", "old, ms", "new, ms"]
  return f"""# Step and compile time of two checkouts

`python -m benchmarks.plumbing --old=OLD --new=NEW`, {where["time"]}: {commits}; {where["machine"]};
{", ".join(where["devices"])}; python {where["python"]}, {named}.
Load average at the start {where["load_average"]:.1f}.

{table(header, rows)}
"""


def commit_of(path) -> str:
  git = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
  done = subprocess.run(git, cwd=path, capture_output=True, text=True)
  return done.stdout.strip() or str(path)


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--old", type=pathlib.Path, required=True, help="the folder of one checkout")
  parser.add_argument("--new", type=pathlib.Path, required=True, help="the folder of the other")
  parser.add_argument("--pairs", type=int, default=41, help="pairs of blocks of steps; at least 2")
  parser.add_argument("--steps", type=int, default=10, help="steps in a block")
  parser.add_argument("--compiles", type=int, default=7, help="pairs of compilations; at least 2")
  parser.add_argument("--out", type=pathlib.Path, default=RESULTS)
  options = parser.parse_args()
  if min(options.pairs, options.compiles) < 2 or options.steps < 1:
    parser.error("quartiles need --pairs and --compiles of at least 2, and --steps at least 1")
  paths = {"old": options.old.resolve(), "new": options.new.resolve()}
  load = os.getloadavg()[0]
  found = measure(paths, options.pairs, options.steps, options.compiles)
  records = [summarize(*key, seconds) for key, seconds in found.items()]
  about = circumstances("python -m benchmarks.plumbing --old=OLD --new=NEW")
  commits = {side: commit_of(path) for side, path in paths.items()}
  options.out.unlink(missing_ok=True)
  for record in (
    {"kind": "circumstances", "commits": commits, "load_average": load, **about},
    *records,
  ):
    append(options.out, record)
  text = page(read(options.out))
  options.out.with_suffix(".md").write_text(text)
  print(text)
  return int(any(r["bound"] and r["ratio"] > r["bound"] for r in records))


if __name__ == "__main__":
  sys.exit(main())
