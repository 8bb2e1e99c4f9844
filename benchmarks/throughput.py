"""Pairs per second of SimCLR, data and views included: our loop beside peers' on a CPU.

  pip install torch==2.13.0 torchvision==0.28.0 lightly==1.6.0     (in an environment of its own)
  pip install --no-deps stable-pretraining==0.1.8 && pip install loguru omegaconf
  python -m benchmarks.throughput [--rounds 11] [--steps 20]

50,000 synthetic images of 32 px in memory, batches of 256, a network of three 3×3 convolutions of
stride 2 (32, 64, 128 channels; BatchNorm, ReLU, global mean), a head of 128 and 64, NT-Xent at
τ = 0.5, AdamW, float32. Views of ours and lightly's: crop, flip, jitter of strength 0.5, gray.

  contrastax              `training.train` with `data.Resident`, logging every 20 steps
  lightly                 PyTorch's loop with lightly's transform and loss, as in its examples:
                          views of PIL images drawn by two workers of a DataLoader
  lightly, one thread     the same, the step on one thread, so that the workers have a core
  stable-pretraining      its JAX backend's Trainer and SimCLR, with its own views in the step (no
                          hue, no saturation), on float images that are ready
  contrastax, no views    our bare step on a batch of float images that is ready
  torch, no views         PyTorch's step on two batches of views that are ready

Each arm has a process, which waits while another measures. Rounds go through all of them in turn; a
round is STEPS steps, after others that fill a DataLoader's queue where there is one, so that its
steady state is timed. A peer that cannot be imported is left out, with the reason. After each of
our rounds the same process times the parts of the step as programs of their own.

When it counts: pairs per second of ours ahead of lightly's, on either number of threads, and of
stable-pretraining's, in the median of the rounds' ratios. Run it while nothing else runs. Where
PyTorch is the CPU's build and torchvision is not, a module `torchvision_cpu` on the path is
imported first, to make it load.

Writes results/throughput.jsonl and, from it, results/throughput.md.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import statistics
import sys

from benchmarks.common import Worker, quartiles, ratios, versions
from benchmarks.throughput_workers import BATCH, SIZE, WIDTHS, WORKERS
from contrastax.core import UserError
from contrastax.experiments.workdir import circumstances
from studies.common.records import Records, append, read
from studies.common.report import table

RESULTS = pathlib.Path(__file__).parent / "results" / "throughput.jsonl"
PEERS = ("lightly", "lightly, one thread", "stable-pretraining")


def measure(rounds, steps):
  """Writes results/throughput.jsonl: a line per round, the arms left out, circumstances."""
  load, arms = os.getloadavg()[0], {}
  RESULTS.unlink(missing_ok=True)
  for name in WORKERS:  # one after the other, and a round each: imports, compilation, caches
    arm = Worker(["-m", "benchmarks.throughput_workers", name, str(steps)], JAX_PLATFORMS="cpu")
    try:
      arm.ask("round")
      if name == "contrastax":
        arm.ask("parts")
      arms[name] = arm
    except UserError as error:
      append(RESULTS, {"kind": "left out", "arm": name, "why": str(error)})
  for r in range(rounds):
    seconds = {name: arm.ask("round") for name, arm in arms.items()}
    parts = arms["contrastax"].ask("parts")
    record = {"kind": "round", "round": r, "steps": steps, "seconds": seconds, "parts": parts}
    append(RESULTS, record)
    print(record, flush=True)
  for arm in arms.values():
    arm.end()
  about = circumstances(" ".join(["python -m benchmarks.throughput", *sys.argv[1:]]))
  about["versions"] |= versions("torch", "torchvision", "lightly", "stable-pretraining")
  append(RESULTS, {"kind": "circumstances", "load_average": load, **about})


def over(rounds, arm):
  """Returns our pairs per second over an arm's, round by round."""
  return ratios([r["seconds"][arm] for r in rounds], [r["seconds"]["contrastax"] for r in rounds])


def throughput_table(rounds) -> str:
  rows = []
  for arm in rounds[0]["seconds"]:
    rates = [BATCH * r["steps"] / r["seconds"][arm] for r in rounds]
    rows.append([arm, quartiles(rates, ",.0f"), quartiles(over(rounds, arm), ".2f")])
  return table(["arm", "pairs/s", "our loop's over it"], rows)


def parts_table(rounds) -> str:
  """The parts are separate programs, so their sum is only roughly the step; a row has the rest."""
  parts = [r["parts"] for r in rounds]
  whole = [p["step"] for p in parts]
  loop = [r["seconds"]["contrastax"] / r["steps"] for r in rounds]
  columns = {
    "views": [p["views"] for p in parts],
    "encoder, forward": [p["encoder forward"] for p in parts],
    "encoder, backward": [p["encoder both"] - p["encoder forward"] for p in parts],
    "projection, forward and backward": [p["projection both"] for p in parts],
    "loss and metrics, forward and backward": [p["loss both"] for p in parts],
    "optimizer and the gradient's norm": [p["optimiser"] for p in parts],
  }
  columns["what the bare step differs by from their sum"] = [
    step - sum(values) for step, *values in zip(whole, *columns.values(), strict=True)
  ]
  columns["the bare step, one program"] = whole
  columns["the frame: the loop less the bare step"] = [
    a - b for a, b in zip(loop, whole, strict=True)
  ]
  columns["the loop, data and log included"] = loop
  return table(["part", "ms", "of the bare step"], [
    [name, quartiles([1000 * x for x in values], ".2f"), quartiles(ratios(values, whole), ".3f")]
    for name, values in columns.items()
  ])  # fmt: skip


def page(records: Records) -> str:
  rounds, (where,) = records.where(kind="round"), records.where(kind="circumstances")
  names = ("jax", "flax", "torch", "torchvision", "lightly", "stable-pretraining")
  named = ", ".join(f"{n} {where['versions'][n]}" for n in names if n in where["versions"])
  notes = [f"Left out: {r['arm']} ({r['why']})." for r in records.where(kind="left out")]
  if {"contrastax, no views", "torch, no views"} <= rounds[0]["seconds"].keys():
    bare = [[r["seconds"][f"{arm}, no views"] for r in rounds] for arm in ("torch", "contrastax")]
    notes.append(
      "Without views, on batches that are ready, our step makes "
      f"{quartiles(ratios(*bare), '.2f')} times the pairs per second of PyTorch's: XLA's convolutions on a CPU beside oneDNN's."
    )
  told = "".join(f"{note}\n\n" for note in notes)
  return f"""# Pairs per second beside peers, on a CPU

SimCLR, batch {BATCH}, {SIZE} px, ConvNet {"-".join(map(str, WIDTHS))}, float32: {len(rounds)}
rounds of {rounds[0]["steps"]} steps of all arms in turn, a process each
(`python -m benchmarks.throughput`). Medians, and quartiles; ratios are taken within a round.

{throughput_table(rounds)}

{told}It counts if our loop is ahead of lightly and of stable-pretraining. stable-pretraining's views
have no hue and no saturation, and its head no BatchNorm.

## Where our step's time goes

Each part is a program of its own, timed in the loop's process after each of its rounds. Backward is
forward and backward less forward.

{parts_table(rounds)}

Load average at the start {where["load_average"]:.1f}; near 0 nothing else ran.
{where["machine"]}; {named}.
"""


def main() -> int:
  flags = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  flags.add_argument("--rounds", type=int, default=11)
  flags.add_argument("--steps", type=int, default=20)
  given = flags.parse_args()
  measure(given.rounds, given.steps)
  records = read(RESULTS)
  RESULTS.with_suffix(".md").write_text(page(records))
  print(page(records))
  rounds = records.where(kind="round")
  measured = [arm for arm in PEERS if arm in rounds[0]["seconds"]]
  return 0 if all(statistics.median(over(rounds, arm)) > 1 for arm in measured) else 1


if __name__ == "__main__":
  sys.exit(main())
