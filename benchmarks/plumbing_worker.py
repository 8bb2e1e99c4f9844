"""The process of one checkout in benchmarks/plumbing.py: `python plumbing_worker.py CHECKOUT`.

It imports contrastax from the checkout and nothing else of either. Each line of stdin, `METHOD
STEPS`, is answered by a line of JSON; with 0 steps the step is compiled.
"""

from __future__ import annotations

import json
import os
import pathlib
import sys
import time

METHODS = ("SimCLR", "MoCo", "BYOL")


def method_of(name):
  from contrastax import encoders, methods, negatives, temperatures, views

  def head():
    return encoders.projection((128,), out=64)

  common = {
    "encoder": encoders.convnet((32, 64, 128)), "projection": head(), "views": views.affine_jitter()
  }  # fmt: skip
  if name == "BYOL":
    return methods.BYOL(predictor=head(), momentum=0.99, **common)
  common["temperature"] = temperatures.fixed(0.2)
  if name == "MoCo":
    return methods.MoCo(momentum=0.99, negatives=negatives.queue(1024), **common)
  return methods.SimCLR(**common)


def main(checkout):
  answers = os.fdopen(os.dup(1), "w", buffering=1)
  os.dup2(2, 1)  # what libraries print is no answer
  import jax
  import optax

  import contrastax
  from contrastax import data, training

  if pathlib.Path(checkout) not in pathlib.Path(contrastax.__file__).resolve().parents:
    sys.exit(f"contrastax was imported from {contrastax.__file__}, not from {checkout}")
  optimizer = optax.adamw(1e-3)
  batch = data.Resident(data.load("digits").train, batch_size=256).batch(0)
  states = {name: training.init(method_of(name), optimizer, batch) for name in METHODS}
  steps = {}
  for line in sys.stdin:
    name, count = line.split()[0], int(line.split()[1])
    state = states[name]
    if count:
      jax.block_until_ready(state)
      start = time.perf_counter()
      for _ in range(count):
        state, metrics = steps[name](state, batch)
      jax.block_until_ready((state, metrics))
      states[name], found = state, {"step": (time.perf_counter() - start) / count}
    else:
      jax.clear_caches()
      start = time.perf_counter()
      lowered = training.make_train_step(method_of(name), optimizer).lower(state, batch)
      traced = time.perf_counter() - start
      steps[name] = lowered.compile()
      found = {"trace": traced, "compile": time.perf_counter() - start}
    answers.write(json.dumps(found) + "\n")


if __name__ == "__main__":
  main(sys.argv[1])
