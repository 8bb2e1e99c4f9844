"""What do the library's own layers cost? Step and compile time of one checkout over another's.

  git worktree add ../old COMMIT
  python benchmarks/plumbing.py --old=../old --new=.
  python benchmarks/plumbing.py --old=../old --new=. --pairs=2 --steps=2 --compiles=2 --out=trial.jsonl

SimCLR, MoCo and BYOL on digits, batch 256, with the networks and views of configs/digits_*.py. Each
checkout has a process of its own, which waits while the other measures. A pair is one measurement
of each, in alternating order, and its ratio is new over old:

  step      the mean time of one train step in a block of STEPS, on a batch that lies ready
  compile   the time from the method to the compiled step, with the compilation cache off and
            nothing kept from earlier compilations: tracing, lowering and XLA
  trace     the part of it before XLA: tracing and lowering

Bounds, on the median ratio of each method: step at most 1.02, compile at most 1.10. Run it while
nothing else runs. The methods are built by code that both checkouts can run.

Writes results/plumbing.jsonl (replaced in each run) and results/plumbing.md.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

RESULTS = pathlib.Path(__file__).parent / "results" / "plumbing.jsonl"
METHODS = ("SimCLR", "MoCo", "BYOL")
BATCH, QUEUE, MOMENTUM, TEMPERATURE, RATE = 256, 1024, 0.99, 0.2, 1e-3
BOUNDS = {"step": 1.02, "compile": 1.10}


# One checkout, in its process


def method_of(name):
  from contrastax import encoders, methods, negatives, temperatures, views

  def head():
    return encoders.projection((128,), out=64)

  common = {
    "encoder": encoders.convnet((32, 64, 128)), "projection": head(), "views": views.affine_jitter()
  }  # fmt: skip
  if name == "BYOL":
    return methods.BYOL(predictor=head(), momentum=MOMENTUM, **common)
  common["temperature"] = temperatures.fixed(TEMPERATURE)
  if name == "MoCo":
    return methods.MoCo(momentum=MOMENTUM, negatives=negatives.queue(QUEUE), **common)
  return methods.SimCLR(**common)


def compile_step(name, optimizer, state, batch):
  """(compiled step, {"trace": seconds, "compile": seconds})"""
  import jax

  from contrastax import training

  jax.clear_caches()
  start = time.perf_counter()
  lowered = training.make_train_step(method_of(name), optimizer).lower(state, batch)
  traced = time.perf_counter() - start
  compiled = lowered.compile()
  return compiled, {"trace": traced, "compile": time.perf_counter() - start}


def time_steps(step, state, batch, count):
  """(state, {"step": seconds of one step})"""
  import jax

  jax.block_until_ready(state)
  start = time.perf_counter()
  for _ in range(count):
    state, metrics = step(state, batch)
  jax.block_until_ready((state, metrics))
  return state, {"step": (time.perf_counter() - start) / count}


def work(checkout):
  """Answers each line of stdin, `METHOD STEPS`, with a line of JSON; 0 steps: compiles."""
  answers = os.fdopen(os.dup(1), "w", buffering=1)
  os.dup2(2, 1)  # what libraries print is no answer
  import optax

  import contrastax
  from contrastax import data, training

  if checkout not in pathlib.Path(contrastax.__file__).resolve().parents:
    sys.exit(f"contrastax was imported from {contrastax.__file__}, not from {checkout}")
  optimizer = optax.adamw(RATE)
  batch = data.Resident(data.load("digits").train, batch_size=BATCH).batch(0)
  states = {name: training.init(method_of(name), optimizer, batch) for name in METHODS}
  steps = {}
  for line in sys.stdin:
    name, count = line.split()
    if count == "0":
      steps[name], found = compile_step(name, optimizer, states[name], batch)
    else:
      states[name], found = time_steps(steps[name], states[name], batch, int(count))
    answers.write(json.dumps(found) + "\n")


class Checkout:
  """The process of one checkout."""

  def __init__(self, path):
    self._process = subprocess.Popen(
      [sys.executable, __file__, "--work", str(path)],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      text=True,
      bufsize=1,
      env={
        **os.environ,
        "PYTHONPATH": str(path),
        "JAX_ENABLE_COMPILATION_CACHE": "0",
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
      },
    )

  def ask(self, name, steps):
    with contextlib.suppress(BrokenPipeError):
      self._process.stdin.write(f"{name} {steps}\n")
    line = self._process.stdout.readline()
    if not line:
      sys.exit(f"the process of a checkout has ended: exit code {self._process.wait()}")
    return json.loads(line)

  def end(self):
    self._process.stdin.close()
    self._process.wait()


# Both


def measure(paths, pairs, steps, compiles):
  """{(method, what): {"old": seconds of each pair, "new": the same}}"""
  sides = {side: Checkout(path) for side, path in paths.items()}
  found = {}
  # The first compilation warms the process up, and the first block the step.
  plan = [(0, False)] + [(0, True)] * compiles + [(steps, False)] + [(steps, True)] * pairs
  for number, (count, kept) in enumerate(plan):
    for name in METHODS:
      for side in list(sides)[:: 1 if number % 2 else -1]:
        for what, seconds in sides[side].ask(name, count).items():
          if kept:
            found.setdefault((name, what), {"old": [], "new": []})[side].append(seconds)
  for each in sides.values():
    each.end()
  return found


def summarize(found):
  """A record for each method and measurement: the median ratio new/old, and its quartiles."""
  records = []
  for (name, what), seconds in found.items():
    ratios = [new / old for old, new in zip(seconds["old"], seconds["new"], strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    records.append({
      "kind": "ratio", "method": name, "what": what, "ratio": middle, "quartiles": [low, high],
      "pairs": len(ratios), "bound": BOUNDS.get(what), "seconds": seconds,
    })  # fmt: skip
  return records


def table(where, records) -> str:
  commits = ", ".join(f"{side} {commit}" for side, commit in where["commits"].items())
  versions = ", ".join(f"{name} {where['versions'][name]}" for name in ("jax", "jaxlib", "optax"))
  lines = [
    "# Step and compile time of two checkouts", "",
    f"`{where['command']}`, {where['time']}: {commits}; {where['machine']}; "
    f"{', '.join(where['devices'])}; python {where['python']}, {versions}. Load average at the start "
    f"{where['load_average']:.1f}.", "",
    "| method | what | ratio, median | quartiles | bound | pairs | old, ms | new, ms |", "|---" * 8 + "|",
  ]  # fmt: skip
  for r in records:
    old, new = (1000 * statistics.median(r["seconds"][side]) for side in ("old", "new"))
    low, high = r["quartiles"]
    lines.append(
      f"| {r['method']} | {r['what']} | {r['ratio']:.3f} | {low:.3f} to {high:.3f} | "
      f"{r['bound'] or ''} | {r['pairs']} | {old:.1f} | {new:.1f} |"
    )
  return "\n".join([*lines, ""])


def commit_of(path) -> str:
  git = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
  done = subprocess.run(git, cwd=path, capture_output=True, text=True)
  return done.stdout.strip() or str(path)


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--old", type=pathlib.Path, help="the folder of the one checkout")
  parser.add_argument("--new", type=pathlib.Path, help="the folder of the other")
  parser.add_argument("--pairs", type=int, default=41, help="pairs of blocks of steps; at least 2")
  parser.add_argument("--steps", type=int, default=10, help="steps in a block")
  parser.add_argument("--compiles", type=int, default=7, help="pairs of compilations; at least 2")
  parser.add_argument("--out", type=pathlib.Path, default=RESULTS)
  parser.add_argument("--work", type=pathlib.Path, help=argparse.SUPPRESS)
  options = parser.parse_args()
  if options.work:
    work(options.work)
    return 0
  if not (options.old and options.new):
    parser.error("--old and --new are the folders of two checkouts")
  if min(options.pairs, options.compiles) < 2 or options.steps < 1:
    parser.error("quartiles need --pairs and --compiles of at least 2, and --steps at least 1")
  paths = {"old": options.old.resolve(), "new": options.new.resolve()}
  load = os.getloadavg()[0]
  records = summarize(measure(paths, options.pairs, options.steps, options.compiles))

  from contrastax.experiments.workdir import circumstances

  where = {
    "kind": "circumstances", "commits": {side: commit_of(path) for side, path in paths.items()},
    "load_average": load, **circumstances(" ".join(["python", *sys.argv])),
  }  # fmt: skip
  options.out.parent.mkdir(parents=True, exist_ok=True)
  options.out.write_text("".join(json.dumps(record) + "\n" for record in (where, *records)))
  options.out.with_suffix(".md").write_text(table(where, records))
  print(options.out.read_text() + "\n" + options.out.with_suffix(".md").read_text())
  return int(any(r["bound"] and r["ratio"] > r["bound"] for r in records))


if __name__ == "__main__":
  sys.exit(main())
