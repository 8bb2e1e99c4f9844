"""Time and memory of one loss: ours in all its evaluations beside other implementations.

  pip install torch==2.13.0        (in an environment of its own; without it that arm is left out)
  python -m benchmarks.losses measure
  python -m benchmarks.losses draw

Value and gradient, the temperature's included, of NT-Xent over n rows (two views of n/2
pairs) of dimension 256 in float32, and of CLIP in both directions over n rows each:

  dense, tiles       ours, `losses.nt_xent` with a plan; tiles as any two sets of vectors
  same set           ours, tiles of one set against itself, the default from 1,449 rows on
  own                a user's NT-Xent on the engine, as docs/engine.md has it, same set
  ring               ours, the same on two virtual CPU devices
  jnp                the formula in plain jax.numpy
  optax              optax.losses.ntxent
  PyTorch            the formula of lightly's NTXentLoss, written out (MIT license; Susmelj et al.)

Two measurements:
  1. ratios at n = 4,096, all arms in one process, round by round in turn, median of 31;
  2. one process for each arm and n, up to 65,536 rows: seconds of the best of three calls, and
     the peak of the process' memory (in GB, the interpreter and its libraries included). An arm
     stops where it would need more than 12 GB.
Run it while nothing else runs. Records that exist in results/losses.jsonl are not measured again.

Bounds: tiles at most 1.10 of jnp with 1/10 of its temporaries; one set against itself at most 0.7
with 1/15; CLIP at most 1.05 of jnp; 2.5 times as fast as PyTorch; 65,536 rows in less than 1.5 GB.
"""

from __future__ import annotations

import functools
import pathlib
import sys

from benchmarks.common import in_a_process, versions
from benchmarks.loss_arms import D
from contrastax.experiments.workdir import circumstances
from studies.common.records import Records, append, read
from studies.common.report import table

RESULTS = pathlib.Path(__file__).parent / "results" / "losses.jsonl"
LIMIT_GB = 12
SIZES = (256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536)
ARMS = ("jnp", "dense", "tiles", "same set", "ring", "optax", "PyTorch")
# Bytes that an arm keeps of each pair, measured at 4,096 rows; optax keeps three differences.
PER_PAIR = {"jnp": 13, "dense": 20, "PyTorch": 16, "optax": 12 * D}


def measure():
  if not read(RESULTS).where(kind="circumstances"):
    about = circumstances("python -m benchmarks.losses measure")
    about["versions"] |= versions("torch")
    append(RESULTS, {"kind": "circumstances", **about})
  # Passive: PyTorch's waiting threads would otherwise spin through the next arm's time.
  process = functools.partial(
    in_a_process, "benchmarks.loss_arms", JAX_PLATFORMS="cpu", OMP_WAIT_POLICY="passive"
  )
  if not read(RESULTS).where(kind="ratios"):
    append(RESULTS, process("ratios"))
  for n in SIZES:
    for arm in ARMS:
      job = {"kind": "sweep", "arm": arm, "n": n}
      if read(RESULTS).where(**job):
        continue
      devices = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"} if arm == "ring" else {}
      needs = PER_PAIR.get(arm, 0) * n * n / 1e9
      stopped = {"stopped": f"would need {needs:.0f} GB"}
      append(RESULTS, job | (stopped if needs > LIMIT_GB else process("one", arm, n, **devices)))


def page(records: Records) -> str:
  (measured,), (about,) = records.where(kind="ratios"), records.where(kind="circumstances")
  rows = []
  for arm, r in measured["arms"].items():
    memory = ["–", "–"]
    if r["temporaries_mb"]:
      memory = [f"{r['temporaries_mb']:.1f}", f"1/{1 / r['temporaries_ratio']:.1f}"]
    times = (r["median_seconds"], 3), (r["ratio"], 2), (r["ratio_of_minima"], 2)
    rows.append([arm, *(f"{x:.{digits}f}" for x, digits in times), *memory])
  header = [
    "", "seconds (median)", "ratio (median of rounds)", "ratio of the fastest", "temporaries (MB)",
    "of jnp's",
  ]  # fmt: skip

  def cell(arm, n):
    found = records.where(kind="sweep", arm=arm, n=n)
    if not found:
      return "not measured"
    return (
      f"{found[0]['seconds']:.3g} s, {found[0]['peak_gb']:.2f} GB"
      if "seconds" in found[0]
      else "stops"
    )

  named = ", ".join(f"{k} {v}" for k, v in about["versions"].items() if v)
  return f"""# Time and memory of the losses

`python -m benchmarks.losses`, {about["time"]}; {about["machine"]}; {named}.

Value and gradient, the temperature's included, n = {measured["n"]:,} rows, d = {D}, float32; all in
one process in turn, {measured["rounds"]} rounds. Ratios are to jnp (CLIP's to CLIP's).

{table(header, rows)}

One process each, best of three calls; peak memory of the whole process.

{table(["n", *ARMS], [[f"{n:,}", *(cell(arm, n) for arm in ARMS)] for n in SIZES])}

![time and memory against n](losses.png)
"""


def figure(records):
  import matplotlib.pyplot as plt

  canvas, axes = plt.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
  for arm, color, marker in zip(ARMS, plt.cm.tab10.colors, "os^vDPX", strict=False):
    sweep = records.where(kind="sweep", arm=arm)
    rows = [r for r in sweep if "seconds" in r]
    style = "--" if arm in ("jnp", "optax", "PyTorch") else "-"
    for axis, key in zip(axes, ("seconds", "peak_gb"), strict=True):
      n, y = [r["n"] for r in rows], [r[key] for r in rows]
      axis.plot(n, y, style, marker=marker, color=color, label=arm, markersize=4)
      if 0 < len(rows) < len(sweep):
        axis.annotate(" stops", (n[-1], y[-1]), fontsize=8, color=color, va="center")
  axes[0].set(ylabel="seconds, value and gradient", yscale="log")
  axes[1].set(ylabel="peak memory of the process (GB)", yscale="log")
  axes[1].axhline(LIMIT_GB, color="gray", linewidth=0.8, linestyle=":")
  told = "12 GB: an arm that would need more stops"
  axes[1].annotate(told, (SIZES[0], LIMIT_GB * 1.06), fontsize=8)
  for axis in axes:
    axis.set_xscale("log", base=2)
    axis.set_xticks(SIZES, [f"{n:,}" for n in SIZES], rotation=45, fontsize=8)
    axis.set_xlabel(f"n, rows of dimension {D} (two views of n/2 pairs)")
    axis.grid(alpha=0.3)
  axes[0].legend(fontsize=8)
  canvas.suptitle("NT-Xent, value and gradient, float32, on two CPU cores")
  canvas.savefig(RESULTS.with_suffix(".png"), dpi=110)


if __name__ == "__main__":
  if sys.argv[1:] == ["measure"]:
    measure()
  elif sys.argv[1:] == ["draw"]:
    RESULTS.with_suffix(".md").write_text(page(read(RESULTS)))
    figure(read(RESULTS))
  else:
    sys.exit("usage: python -m benchmarks.losses measure|draw")
