"""CLIP's loss on an accelerator: value and gradient in tiles, bf16, and the share of matmul peak.

  python -m benchmarks.losses_gpu --n=65536 --d=512 --blocks=2048,4096,8192,16384 --peak=790
  python -m benchmarks.losses_gpu --n=1024 --d=64 --blocks=256 --peak=0.2        (a trial on a CPU)

`--peak` is the accelerator's dense bf16 rate in TFLOP/s. Four products of 2·n²·d are needed: scores
forward, scores again, and one for the gradient of each side; `floor_ms` is their time at the peak.
`--largest` doubles n until memory does not suffice. Inputs are bfloat16, sums float32, the
temperature's gradient included. The best of `--repeats` calls counts. Beside ours, where it is
installed, PyTorch with `inf_cl` (pip install inf-cl) in the same process. Needs jax, flax, optax
and numpy; prints versions first, then a line of JSON for every measurement.

No result of it is committed yet: it has run on a CPU only.
"""

from __future__ import annotations

import argparse
import json
import time

import jax
import jax.numpy as jnp

from benchmarks.common import versions
from contrastax import losses
from contrastax.pairwise import Plan


def best(call, repeats):
  call()
  seconds = []
  for _ in range(repeats):
    start = time.perf_counter()
    call()
    seconds.append(time.perf_counter() - start)
  return min(seconds)


def ours(n, d, block, repeats):
  a, b = jax.random.normal(jax.random.key(0), (2, n, d), jnp.bfloat16)

  def loss(a, b, log_scale):
    return losses.clip(a, b, temperature=jnp.exp(-log_scale), plan=Plan(block)).mean()

  inputs = a, b, jnp.float32(3)
  program = jax.jit(jax.value_and_grad(loss, (0, 1, 2))).lower(*inputs).compile()
  seconds = best(lambda: jax.block_until_ready(program(*inputs)), repeats)
  return seconds, program.memory_analysis().temp_size_in_bytes


def inf_cl(n, d, repeats):
  import torch
  from inf_cl import cal_inf_loss

  a, b = (torch.nn.functional.normalize(torch.randn(n, d, device="cuda"), dim=1) for _ in range(2))
  a, b = (x.bfloat16().requires_grad_() for x in (a, b))
  log_scale = torch.tensor(3.0, device="cuda", requires_grad=True)

  def call():
    cal_inf_loss(a, b, scale=log_scale.exp()).backward()
    torch.cuda.synchronize()

  return best(call, repeats)


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--n", type=int, default=65536)
  parser.add_argument("--d", type=int, default=512)
  parser.add_argument("--blocks", default="2048,4096,8192,16384")
  parser.add_argument("--peak", type=float, default=790, help="TFLOP/s, dense bf16")
  parser.add_argument("--repeats", type=int, default=5)
  parser.add_argument("--largest", action="store_true")
  options = parser.parse_args()
  named = versions("jax", "jaxlib", "flax", "optax", "numpy", "torch", "inf-cl")
  print(json.dumps({"versions": named, "devices": [d.device_kind for d in jax.devices()]}))

  def report(n, block):
    floor = 4 * 2 * n * n * options.d / (options.peak * 1e12)
    seconds, temporaries = ours(n, options.d, block, options.repeats)
    print(
      json.dumps({
        "arm": "contrastax", "n": n, "d": options.d, "block": block, "ms": 1e3 * seconds,
        "floor_ms": 1e3 * floor, "of_peak": floor / seconds, "temporaries_mb": temporaries / 1e6,
      }),
      flush=True,
    )  # fmt: skip
    return seconds

  blocks = [int(block) for block in options.blocks.split(",")]
  times = {block: report(options.n, block) for block in blocks}
  try:
    seconds = inf_cl(options.n, options.d, options.repeats)
    print(json.dumps({"arm": "inf-cl", "n": options.n, "d": options.d, "ms": 1e3 * seconds}))
  except (ImportError, RuntimeError, AssertionError) as error:
    print(json.dumps({"arm": "inf-cl", "left out": str(error).splitlines()[0]}))
  n = options.n
  while options.largest:
    n *= 2
    try:
      report(n, min(times, key=times.get))
    except jax.errors.JaxRuntimeError as error:
      print(json.dumps({"n": n, "stopped": str(error).splitlines()[0][:120]}))
      break


if __name__ == "__main__":
  main()
