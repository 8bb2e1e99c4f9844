"""Time and memory of one loss: ours in all its evaluations beside what others do.

  pip install torch==2.13.0        (in an environment of its own; without it that arm is left out)
  python benchmarks/losses.py measure
  python benchmarks/losses.py draw

Value and gradient, the temperature's included, of NT-Xent over n rows (two views of n/2
pairs) of dimension 256 in float32, and of CLIP in both directions over n rows each:

  dense, tiles       ours, `losses.nt_xent` with a plan; tiles as any two sets of vectors
  same set           ours, tiles of one set against itself, the default from 1,449 rows on
  own                a stranger's NT-Xent on the engine, as docs/engine.md has it, same set
  ring               ours, the same on two virtual CPU devices
  jnp                the formula in plain jax.numpy
  optax              optax.losses.ntxent
  PyTorch            what lightly's NTXentLoss computes, written out (MIT license; Susmelj et al.)

What is measured:
  1. ratios at n = 4,096, all arms in one process, round by round in turn, median of ROUNDS;
  2. one process for each arm and n, up to 65,536 rows: seconds of the best of three calls, and
     the peak of the process' memory (in GB, the interpreter and its libraries included). An arm
     stops where it would need more than 12 GB.
Run it while nothing else runs. Results go to results/losses.jsonl line by line; what stands there
is not measured again, so deleting it starts afresh. Needs only jax, optax, numpy (and torch).

Bounds: tiles at most 1.10 of jnp with 1/10 of its temporaries; one set against itself at most 0.7 with
1/15; CLIP at most 1.05 of jnp; 2.5 times as fast as PyTorch; 65,536 rows in less than 1.5 GB.
"""

from __future__ import annotations

import functools
import importlib.metadata
import json
import os
import pathlib
import platform
import resource
import statistics
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).parent
RESULTS = HERE / "results" / "losses.jsonl"
D, TEMPERATURE, ROUNDS, LIMIT_GB = 256, 0.1, 31, 12
SIZES = (256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536)
ARMS = ("jnp", "dense", "tiles", "same set", "ring", "optax", "PyTorch")
RATIO_ARMS = ("jnp", "dense", "tiles", "same set", "own", "PyTorch")
CLIP_ARMS = ("clip jnp", "clip dense", "clip tiles")


def needs_gb(arm: str, n: int) -> float:
  """A lower bound of an arm's memory: what it keeps of all pairs, measured at 4,096 rows."""
  per_pair = {"jnp": 13, "clip jnp": 13, "dense": 20, "clip dense": 24, "PyTorch": 16}
  per_pair["optax"] = 12 * D  # three arrays of a difference of vectors for each pair
  return per_pair.get(arm, 0) * n * n / 1e9


def arrays(n):
  import numpy as np

  rng = np.random.default_rng(0)
  one = rng.normal(size=(n, D)).astype(np.float32)
  return one, (one + 0.5 * rng.normal(size=(n, D))).astype(np.float32)


def compiled(arm: str, n: int):
  """(call() -> value, gradients; bytes of the program's temporaries or None)."""
  if arm == "PyTorch":
    return torch_arm(n), None
  import jax
  import jax.numpy as jnp

  from contrastax import criteria, losses, pairwise
  from contrastax.core import Group
  from contrastax.losses.arrays import two_views
  from contrastax.pairwise import Plan
  from contrastax.relations import same_example

  def normalized(z):
    return z / jnp.linalg.norm(z, axis=1, keepdims=True)

  def jnp_nt_xent(z1, z2, tau):
    z = normalized(jnp.concatenate([z1, z2]))
    logits = jnp.where(jnp.eye(n, dtype=bool), -jnp.inf, z @ z.T / tau)
    positive = (z * jnp.roll(z, n // 2, 0)).sum(1) / tau
    return (jax.nn.logsumexp(logits, 1) - positive).mean()

  def jnp_clip(a, b, tau):
    a, b = normalized(a), normalized(b)
    logits = a @ b.T / tau
    both = jax.nn.logsumexp(logits, 1) + jax.nn.logsumexp(logits, 0)
    return (both / 2 - (a * b).sum(1) / tau).mean()

  def optax_nt_xent(z1, z2, tau):
    import optax

    return optax.losses.ntxent(jnp.concatenate([z1, z2]), jnp.arange(n) % (n // 2), tau)

  def ours(plan, z1, z2, tau):
    return losses.nt_xent(z1, z2, temperature=tau, plan=plan).mean()

  def two_sets(plan, z1, z2, tau):
    views = two_views(z1, z2)
    return criteria.evaluate(
      criteria.info_nce(), views, (views,), relation=same_example(), temperature=tau, plan=plan
    ).value.mean()

  def our_clip(plan, a, b, tau):
    return losses.clip(a, b, temperature=tau, plan=plan).mean()

  def own(plan, z1, z2, tau):
    z = jnp.concatenate([z1, z2])
    group = Group(z, {"row": jnp.arange(n), "example": jnp.arange(n) % (n // 2)})
    r = pairwise.reduce(
      own_channels, group, (group,), score=pairwise.cosine(), shared=tau, same_set=True, plan=plan,
      reductions={"all": pairwise.log_sum_exp, "positive": pairwise.sum_},
    )  # fmt: skip
    return (r["all"] - r["positive"]).mean()

  tiles = Plan(512)
  if arm == "ring":
    axes = (jax.sharding.AxisType.Auto,)
    tiles = Plan(512, mesh=jax.make_mesh((len(jax.devices()),), ("data",), axis_types=axes))
  loss = {
    "jnp": jnp_nt_xent,
    "clip jnp": jnp_clip,
    "optax": optax_nt_xent,
    "dense": functools.partial(ours, Plan("dense")),
    "same set": functools.partial(ours, tiles),
    "own": functools.partial(own, tiles),
    "ring": functools.partial(ours, tiles),
    "tiles": functools.partial(two_sets, tiles),
    "clip dense": functools.partial(our_clip, Plan("dense")),
    "clip tiles": functools.partial(our_clip, Plan()),
  }[arm]
  inputs = [jnp.asarray(x) for x in arrays(n if arm.startswith("clip") else n // 2)]
  inputs.append(jnp.float32(TEMPERATURE))
  program = jax.jit(jax.value_and_grad(loss, (0, 1, 2))).lower(*inputs).compile()
  temporaries = program.memory_analysis().temp_size_in_bytes

  def call():
    value, gradients = jax.block_until_ready(program(*inputs))
    return float(value), float(gradients[2])

  return call, temporaries


def own_channels(similarity, anchor, candidate, temperature):
  import jax.numpy as jnp

  logit = similarity / temperature
  itself = anchor["row"] == candidate["row"]
  positive = (anchor["example"] == candidate["example"]) & ~itself
  return {"all": jnp.where(itself, -jnp.inf, logit), "positive": jnp.where(positive, logit, 0)}


def torch_arm(n):
  import torch
  from torch.nn import functional

  torch.set_num_threads(os.cpu_count())
  z1, z2 = (torch.tensor(x, requires_grad=True) for x in arrays(n // 2))
  tau = torch.tensor(TEMPERATURE, requires_grad=True)

  def call():
    for leaf in (z1, z2, tau):
      leaf.grad = None
    one, two = functional.normalize(z1, dim=1), functional.normalize(z2, dim=1)
    logits = torch.einsum("nc,mc->nm", torch.cat([one, two]), torch.cat([one, two])) / tau
    others = ~torch.eye(n, dtype=torch.bool)
    logits = logits[others].view(n, n - 1)
    rows = torch.arange(n // 2)
    labels = torch.cat([rows + n // 2 - 1, rows])
    loss = functional.cross_entropy(logits, labels)
    loss.backward()
    return loss.item(), tau.grad.item()

  return call


def measure_ratios():
  """All arms at 4,096 rows in turn; a ratio is formed within a round."""
  n, programs, temporaries, values = 4096, {}, {}, {}
  for arm in (*RATIO_ARMS, *CLIP_ARMS):
    try:
      programs[arm], temporaries[arm] = compiled(arm, n)
    except ModuleNotFoundError:
      continue
    values[arm] = programs[arm]()
  seconds = {arm: [] for arm in programs}
  for _ in range(ROUNDS):
    for arm, call in programs.items():
      start = time.perf_counter()
      call()
      seconds[arm].append(time.perf_counter() - start)
  report = {}
  for arm in programs:
    base = "clip jnp" if arm.startswith("clip") else "jnp"
    ratios = [a / b for a, b in zip(seconds[arm], seconds[base], strict=True)]
    report[arm] = {
      "value": values[arm][0],
      "temperature_gradient": values[arm][1],
      "median_seconds": statistics.median(seconds[arm]),
      "min_seconds": min(seconds[arm]),
      "ratio": statistics.median(ratios),
      "ratio_of_minima": min(seconds[arm]) / min(seconds[base]),
      "temporaries_mb": temporaries[arm] and temporaries[arm] / 1e6,
      "temporaries_ratio": temporaries[arm] and temporaries[arm] / temporaries[base],
    }
  return {"kind": "ratios", "n": n, "rounds": ROUNDS, "arms": report}


def measure_one(arm: str, n: int):
  call, temporaries = compiled(arm, n)
  value = call()
  seconds = []
  for _ in range(3):
    start = time.perf_counter()
    call()
    seconds.append(time.perf_counter() - start)
    if sum(seconds) > 60:
      break
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
  return {
    "kind": "sweep", "arm": arm, "n": n, "value": value[0], "seconds": min(seconds),
    "peak_gb": peak, "temporaries_mb": temporaries and temporaries / 1e6,
  }  # fmt: skip


def circumstances():
  versions = {}
  for name in ("jax", "jaxlib", "numpy", "optax", "torch"):
    try:
      versions[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
      versions[name] = None
  with open("/proc/cpuinfo") as file:
    cpu = next((line.split(":")[1].strip() for line in file if "model name" in line), "")
  return {
    "kind": "circumstances", "python": platform.python_version(), "versions": versions,
    "machine": f"{platform.platform()}, {os.cpu_count()} cores, {cpu}",
    "time": time.strftime("%Y-%m-%d %H:%M"),
  }  # fmt: skip


def in_a_process(*arguments, devices=1):
  # Passive: PyTorch's waiting threads would otherwise spin through the next arm's time.
  environment = dict(os.environ, JAX_PLATFORMS="cpu", OMP_WAIT_POLICY="passive")
  if devices > 1:
    environment["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={devices}"
  done = subprocess.run(
    [sys.executable, __file__, *map(str, arguments)],
    env=environment, capture_output=True, text=True,
  )  # fmt: skip
  if done.returncode:
    return {"error": (done.stderr.strip().splitlines() or [f"exit {done.returncode}"])[-1]}
  return json.loads(done.stdout.splitlines()[-1])


def measure():
  RESULTS.parent.mkdir(exist_ok=True)
  stand = read()

  def add(record):
    stand.append(record)
    with RESULTS.open("a") as file:
      file.write(json.dumps(record) + "\n")
    print(json.dumps(record), flush=True)

  if not any(r["kind"] == "circumstances" for r in stand):
    add(circumstances())
  if not any(r["kind"] == "ratios" for r in stand):
    add(in_a_process("ratios"))
  for n in SIZES:
    for arm in ARMS:
      if any(r["kind"] == "sweep" and (r["arm"], r["n"]) == (arm, n) for r in stand):
        continue
      if needs_gb(arm, n) > LIMIT_GB:
        add(
          {"kind": "sweep", "arm": arm, "n": n, "stopped": f"would need {needs_gb(arm, n):.0f} GB"}
        )
        continue
      found = in_a_process("one", arm, n, devices=2 if arm == "ring" else 1)
      if "error" in found:
        found = {"kind": "sweep", "arm": arm, "n": n, "stopped": found["error"]}
      add(found)


def read():
  if not RESULTS.exists():
    return []
  return [json.loads(line) for line in RESULTS.read_text().splitlines()]


def draw():
  """results/losses.png and results/losses.md from what was measured."""
  import matplotlib.pyplot as plt

  stand = read()
  sweep = [r for r in stand if r["kind"] == "sweep"]
  figure, axes = plt.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
  for place, (arm, color) in enumerate(zip(ARMS, plt.cm.tab10.colors, strict=False)):
    rows = [r for r in sweep if r["arm"] == arm and "seconds" in r]
    if not rows:
      continue
    style = "--" if arm in ("jnp", "optax", "PyTorch") else "-"
    n = [r["n"] for r in rows]
    for axis, key in zip(axes, ("seconds", "peak_gb"), strict=True):
      y = [r[key] for r in rows]
      axis.plot(n, y, style, marker="os^vDPX"[place], color=color, label=arm, markersize=4)
      if any(r["arm"] == arm and "stopped" in r for r in sweep):
        axis.annotate(" stops", (n[-1], y[-1]), fontsize=8, color=color, va="center")
  axes[0].set(ylabel="seconds, value and gradient", yscale="log")
  axes[1].set(ylabel="peak memory of the process (GB)", yscale="log")
  axes[1].axhline(LIMIT_GB, color="gray", linewidth=0.8, linestyle=":")
  axes[1].annotate(
    "12 GB: an arm that would need more stops", (SIZES[0], LIMIT_GB * 1.06), fontsize=8
  )
  for axis in axes:
    axis.set_xscale("log", base=2)
    axis.set_xticks(SIZES, [f"{n:,}" for n in SIZES], rotation=45, fontsize=8)
    axis.set_xlabel(f"n, rows of dimension {D} (two views of n/2 pairs)")
    axis.grid(alpha=0.3)
  axes[0].legend(fontsize=8)
  figure.suptitle("NT-Xent, value and gradient, float32, on two CPU cores")
  figure.savefig(RESULTS.with_suffix(".png"), dpi=110)

  ratios = next(r for r in stand if r["kind"] == "ratios")
  machine = next(r for r in stand if r["kind"] == "circumstances")
  lines = [
    "# Time and memory of the losses", "",
    f"`benchmarks/losses.py`, {machine['time']}; {machine['machine']}; "
    + ", ".join(f"{k} {v}" for k, v in machine["versions"].items() if v) + ".", "",
    f"Value and gradient, the temperature's included, n = {ratios['n']:,} rows, d = {D}, float32; all in one "
    f"process in turn, {ratios['rounds']} rounds. Ratios are to jnp (CLIP's to CLIP's).", "",
    "| | seconds (median) | ratio (median of rounds) | ratio of the fastest | temporaries (MB) | of jnp's |",
    "|---|---|---|---|---|---|",
  ]  # fmt: skip
  for arm, r in ratios["arms"].items():
    memory = ["–", "–"]
    if r["temporaries_mb"]:
      memory = [f"{r['temporaries_mb']:.1f}", f"1/{1 / r['temporaries_ratio']:.1f}"]
    lines.append(
      f"| {arm} | {r['median_seconds']:.3f} | {r['ratio']:.2f} | {r['ratio_of_minima']:.2f} | "
      f"{memory[0]} | {memory[1]} |"
    )
  lines += ["", "One process each, best of three calls; peak memory of the whole process.", ""]
  lines += ["| n | " + " | ".join(ARMS) + " |", "|" + "---|" * (len(ARMS) + 1)]
  for n in SIZES:
    cells = []
    for arm in ARMS:
      r = next((r for r in sweep if (r["arm"], r["n"]) == (arm, n)), {})
      if "seconds" in r:
        cells.append(f"{r['seconds']:.3g} s, {r['peak_gb']:.2f} GB")
      else:
        cells.append("stops" if r else "not measured")
    lines.append(f"| {n:,} | " + " | ".join(cells) + " |")
  lines += ["", "![time and memory against n](losses.png)", ""]
  RESULTS.with_suffix(".md").write_text("\n".join(lines))


def main(command, *rest):
  if command == "measure":
    measure()
  elif command == "draw":
    draw()
  elif command == "ratios":
    print(json.dumps(measure_ratios()))
  elif command == "one":
    print(json.dumps(measure_one(rest[0], int(rest[1]))))


if __name__ == "__main__":
  if len(sys.argv) < 2 or sys.argv[1] not in ("measure", "draw", "ratios", "one"):
    sys.exit("say what to do: measure or draw")
  main(*sys.argv[1:])
