"""The loop: restore, evaluate, save, then consume, step, write."""

from __future__ import annotations

import contextlib
import os
import pathlib
import threading
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax
from jax.sharding import Mesh

from contrastax.core import Method, Source, TrainState, UserError, check_integer, check_seed
from contrastax.data import Resident
from contrastax.paths import select
from contrastax.training.checkpoints import Checkpoints
from contrastax.training.load import save_encoder_spec
from contrastax.training.log import Log, cut
from contrastax.training.mesh import block_on_virtual_devices, make_mesh
from contrastax.training.refresh import Refresh, Segments
from contrastax.training.signals import Stop
from contrastax.training.step import init, make_train_step

MOST_STEPS = 2**31 - 1  # steps are counted in int32


def train(
  method: Method,
  optimizer: optax.GradientTransformation,
  source: Source,
  *,
  steps: int,
  workdir: str | os.PathLike,
  stop: Stop | None = None,
  mesh: Mesh | None = None,
  seed: int = 0,
  evaluate: Callable[[TrainState], dict[str, float]] | None = None,
  refresh: Refresh | None = None,
  log_every: int = 10,
  eval_every: int = 1000,
  checkpoint_every: int = 1000,
  accepted: Callable[[], None] | None = None,
  encoder: Any = None,
) -> TrainState:
  """Trains for `steps` steps, from the newest intact checkpoint of `workdir` if there is one.

  It saves a checkpoint every `checkpoint_every` steps and at the end. At SIGINT (Ctrl-C), SIGTERM and
  SIGHUP it saves one and then raises `training.Interrupted`. The same call resumes from there.

  Args:
    method: what is trained.
    optimizer: an optax optimizer. If it has a schedule, let it span `steps`.
    source: the batches.
    steps: the total number of steps, those before a resume included, 1 to 2**31 − 1.
    workdir: the folder for checkpoints and logs; made if it does not exist.
    stop: a `training.Stop` that is already entered. By default `train` enters one before its first
      step. Only the main thread can catch signals; in another thread the default catches none.
    mesh: the devices; all of them by default.
    seed: an integer from 0 to 2**32 − 1.
    evaluate: maps a state to metrics, which are logged before the step's checkpoint is saved. It
      must not touch the test set.
    refresh: what is computed from all data between segments of the run, such as hard negatives that
      follow the encoder, `training.mined(…)`.
    log_every: the steps between two lines of metrics.
    eval_every: the steps between two evaluations.
    checkpoint_every: the steps between two checkpoints.
    accepted: called once it is certain that the run can start or go on, before any file in
      `workdir` is written.
    encoder: the evaluated encoder as a config states it, {"name": …}. Then `contrastax.load(workdir)`
      needs no more than the folder. Without it call `contrastax.load(workdir, encoder=…)` with the
      encoder of the method.

  Returns:
    The state after the last step.

  Raises:
    UserError: a setting is out of range, the checkpoint is of another run, or a metric is not
      finite.

  Example:
    source = data.Resident({"image": images}, batch_size=256)
    method = methods.SimCLR(encoder=…, projection=…, views=…)
    optimizer = optimizers.adamw(steps=1000, learning_rate=1e-3)
    state = training.train(method, optimizer, source, steps=1000, workdir="runs/mine")
  """
  check_seed(seed)
  check_integer("steps", steps, 1, MOST_STEPS)
  check_integer("log_every", log_every, 1)
  check_integer("eval_every", eval_every, 1)
  check_integer("checkpoint_every", checkpoint_every, 1)
  examples = getattr(method, "examples", 0)  # optional, of parts that keep something of each
  if 0 < examples < source.size:
    raise UserError(
      f"the data have {source.size:,} examples, and the method's examples are {examples:,}; give it "
      "examples=…, the size of the data"
    )
  mesh = make_mesh() if mesh is None else mesh
  workdir = pathlib.Path(workdir)
  workdir.mkdir(parents=True, exist_ok=True)
  with contextlib.closing(Checkpoints(workdir / "checkpoints")) as checkpoints:
    feed = _always(source)
    if refresh is not None:
      feed = Segments(refresh, method, source, workdir / "refresh", checkpoints).at
    state = init(method, optimizer, feed(0, None).batch(0), seed=seed, mesh=mesh)
    train_step = make_train_step(method, optimizer, mesh)
    fingerprint = source.fingerprint ^ (0 if refresh is None else refresh.fingerprint)
    data = np.asarray(fingerprint, np.uint32)
    restored = checkpoints.newest_intact(tidy=True)
    if restored is not None:
      if restored > steps:
        raise UserError(
          f"{workdir} is already at step {restored}, beyond steps = {steps}; "
          "give more steps, or another workdir"
        )
      state = _restore(checkpoints, restored, state, data)
    step = restored or 0
    if step < steps:
      batch = feed(step, state).batch(step)
      jax.eval_shape(train_step, state, batch)  # raises what the method refuses
    if accepted is not None:
      accepted()
    _describe(workdir, method, source, encoder)
    if step == steps:
      cut(workdir / "metrics.jsonl", step)
      print(f"finished: checkpoint {step} is the last and intact", flush=True)
      return state
    if restored:
      print(f"resuming from checkpoint {restored}", flush=True)

    log = Log(
      workdir, restored=restored, steps=steps, batch_size=source.batch_size, every=log_every
    )
    with contextlib.closing(log), _caught(stop) as stop, stop.deferred():
      while True:
        last, stopping = step == steps, bool(stop)  # asked once: it may change at any moment
        judge = evaluate is not None and (last or step % eval_every == 0)
        save = last or stopping or step % checkpoint_every == 0
        if step != restored and (judge or save):
          with log.aside():
            if judge:
              log.write(step, evaluate(state))
            if save:
              log.flush()
              checkpoints.save(step, {**state._asdict(), "data": data})
        if last or stopping:
          break
        if refresh is not None and step % refresh.every == 0:
          with log.aside():
            feed(step, state)
        batch = block_on_virtual_devices(feed(step, state).batch(step), mesh)
        state, metrics = block_on_virtual_devices(train_step(state, batch), mesh)
        step += 1
        log.add(step, metrics)
      checkpoints.wait()
  return state


def _describe(workdir, method, source, encoder):
  """Writes encoder.json, for a method with the optional `evaluated`."""
  evaluated = getattr(method, "evaluated", None)
  if evaluated is None:
    return
  arrays = source.arrays if isinstance(source, Resident) else source.batch(0)
  network, names, _ = evaluated
  wanted = {names} if isinstance(names, str) else {*names}
  if wanted <= {*arrays}:  # else the method makes what it encodes of other fields
    save_encoder_spec(workdir, encoder, network, select(arrays, names))


def _always(source):
  return lambda step, state: source


def _caught(stop):
  """The context that catches signals: the caller's, one of our own, or in a thread an idle one."""
  if stop is not None:
    return contextlib.nullcontext(stop)
  main = threading.current_thread() is threading.main_thread()
  return Stop() if main else contextlib.nullcontext(Stop())


def _restore(checkpoints, step, state, data):
  """The state saved at `step`, of a run on data of the same fingerprint, refreshed in the same way."""
  tree = checkpoints.restore(step, {**state._asdict(), "data": data})
  if tree.pop("data") != data:
    raise UserError(
      f"the data are not those that checkpoint {step} was trained on: their examples, their order, or "
      "the refresh have changed; go on with those, or begin anew in another workdir"
    )
  return TrainState(**tree)
