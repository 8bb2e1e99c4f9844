"""The loop: restore, evaluate, save, then consume, step, write."""

from __future__ import annotations

import contextlib
import os
import pathlib
from collections.abc import Callable

import numpy as np
import optax
from jax.sharding import Mesh

from contrastax.core import Method, Source, TrainState, UserError
from contrastax.training.checkpoints import Checkpoints
from contrastax.training.log import Log
from contrastax.training.mesh import settled
from contrastax.training.signals import Stop
from contrastax.training.step import init, make_train_step


def train(
  method: Method,
  optimizer: optax.GradientTransformation,
  source: Source,
  *,
  steps: int,
  workdir: str | os.PathLike,
  stop: Stop,
  mesh: Mesh,
  seed: int = 0,
  evaluate: Callable[[TrainState], dict[str, float]] | None = None,
  log_every: int = 10,
  eval_every: int = 1000,
  checkpoint_every: int = 1000,
) -> TrainState:
  """Trains for `steps` steps, from the newest intact checkpoint of `workdir` if there is one.

  Saves every `checkpoint_every` steps, at the end, and when `stop` is signalled: then
  `signals.Interrupted` is raised once the checkpoint is safe. `evaluate(state)` returns
  metrics that are logged before the step's checkpoint is saved, and must not touch the
  test set. A metric that is not finite stops the run with a UserError naming it.
  """
  intervals = {
    "log_every": log_every,
    "eval_every": eval_every,
    "checkpoint_every": checkpoint_every,
  }
  for name, value in {"steps": steps, **intervals}.items():
    if value < 1:
      raise UserError(f"{name} must be at least 1, not {value}")
  workdir = pathlib.Path(workdir)
  workdir.mkdir(parents=True, exist_ok=True)
  with contextlib.closing(Checkpoints(workdir / "checkpoints")) as checkpoints:
    state = init(method, optimizer, source.batch(0), seed=seed, mesh=mesh)
    data = np.asarray(source.fingerprint, np.uint32)
    restored = checkpoints.newest_intact(tidy=True)
    if restored is not None:
      if restored > steps:
        raise UserError(
          f"{workdir} is already at step {restored}, beyond steps = {steps}; "
          "give more steps, or another workdir"
        )
      state = _restore(checkpoints, restored, state, data)
    step = restored or 0
    if step == steps:
      print(f"finished: checkpoint {step} is the last and intact", flush=True)
      return state
    if restored:
      print(f"resuming from checkpoint {restored}", flush=True)

    train_step = make_train_step(method, optimizer, mesh)
    log = Log(workdir, start=step, steps=steps, batch_size=source.batch_size, every=log_every)
    with contextlib.closing(log), stop.deferred():
      while True:
        last, stopping = step == steps, bool(stop)  # asked once: it may change at any moment
        judge = evaluate is not None and (last or step % eval_every == 0)
        save = last or stopping or step % checkpoint_every == 0
        if step != restored and (judge or save):
          with log.aside():
            if judge:
              log.write(step, evaluate(state))
            if save:
              checkpoints.save(step, {**state._asdict(), "data": data})
        if last or stopping:
          break
        batch = settled(source.batch(step), mesh)
        state, metrics = settled(train_step(state, batch), mesh)
        step += 1
        log.add(step, metrics)
      checkpoints.wait()
  return state


def _restore(checkpoints, step, state, data):
  """The state saved at `step`, of a run on data of the same fingerprint."""
  tree = checkpoints.restore(step, {**state._asdict(), "data": data})
  if tree.pop("data") != data:
    raise UserError(
      f"the data are not those that checkpoint {step} was trained on: their examples, or their order, "
      "have changed; go on with those, or begin anew in another workdir"
    )
  return TrainState(**tree)
