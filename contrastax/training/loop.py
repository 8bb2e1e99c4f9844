"""The training loop, with checkpoints, evaluations and a log."""

from __future__ import annotations

import contextlib
import os
import pathlib
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import optax
from jax.sharding import Mesh

from contrastax.core import (
  HasEvaluated,
  Method,
  Source,
  TrainState,
  UserError,
  check_integer,
  check_seed,
)
from contrastax.data import Dataset
from contrastax.data.source import OrderedSource
from contrastax.paths import select
from contrastax.training.average import has_average
from contrastax.training.checkpoints import Checkpoints
from contrastax.training.description import save_encoder_spec
from contrastax.training.log import Log, cut
from contrastax.training.loggers import Loggers
from contrastax.training.mesh import block_on_virtual_devices, make_mesh
from contrastax.training.refresh import Refresh, Segments
from contrastax.training.signals import Stop
from contrastax.training.step import init, make_train_step

MOST_STEPS = 2**31 - 1  # The step is an int32.


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
  evaluate: Callable[[TrainState], Mapping[str, float]] | None = None,
  refresh: Refresh | None = None,
  log_every: int = 10,
  eval_every: int = 1000,
  checkpoint_every: int = 1000,
  accepted: Callable[[], None] | None = None,
  encoder: Any = None,
  networks: Mapping[str, Mapping[str, Any]] | None = None,
  loggers: Loggers | None = None,
) -> TrainState:
  """Trains a method, starting from the newest intact checkpoint of `workdir` if there is one.

  A checkpoint is saved every `checkpoint_every` steps and at the end. After SIGINT (Ctrl-C),
  SIGTERM or SIGHUP, a checkpoint is saved and `training.Interrupted` is raised. The same call
  resumes the run.

  Args:
    method: the method.
    optimizer: an optax optimizer. A learning-rate schedule should span `steps`.
    source: the source of the batches.
    steps: total number of steps, including those before a resume, 1 to 2³¹ − 1.
    workdir: folder for checkpoints and logs, which is created if it does not exist.
    stop: a `training.Stop` that is already entered. By default `train` enters one before its first
      step. Only the main thread can handle signals; in another thread the default handles none.
    mesh: a mesh with an axis `data`. By default it consists of all devices.
    seed: 0 to 2³² − 1.
    evaluate: function from a state to metrics, which are logged. It should not use the test set.
    refresh: computes arrays from all data between segments of the run, such as hard negatives
      (`training.mined(…)`).
    log_every: number of steps between two records of metrics.
    eval_every: number of steps between two evaluations.
    checkpoint_every: number of steps between two checkpoints.
    accepted: function that is called when all arguments and the checkpoint are valid, before any
      file in `workdir` is written.
    encoder: spec of the evaluated encoder, {"name": …}, as in a config. Without it
      `contrastax.load(workdir, encoder=…)` needs the encoder of the method.
    networks: {name: entry} of the other networks that `contrastax.load` can return. The entry of an
      encoder has its spec `encoder` and `fields`, the fields of the data that it takes. The entry of
      a projection has its spec `encoder` and `of`, the name of the encoder whose embeddings it takes.
    loggers: loggers beside metrics.jsonl and TensorBoard, such as `training.Loggers(("wandb",))`.

  Returns:
    The state after the last step.

  Raises:
    UserError: an argument is invalid, the checkpoint is of another run, or no anchor has had a
      negative for ten steps.
    TrainingDiverged: the loss or another metric is not finite.
    Interrupted: a signal was received.

  Example:
    >>> import tempfile
    >>> import numpy as np
    >>> from contrastax import data, encoders, methods, training, views
    >>> from contrastax.training import optimizers
    >>> images = np.random.default_rng(0).random((8, 4, 4, 1), np.float32)
    >>> source = data.Resident({"image": images}, batch_size=4)
    >>> method = methods.SimCLR(
    ...   encoder=encoders.mlp((8,)),
    ...   projection=encoders.projection((8,), out=4),
    ...   views=views.affine_jitter(),
    ... )
    >>> optimizer = optimizers.adamw(steps=2, learning_rate=1e-3)
    >>> with tempfile.TemporaryDirectory() as workdir:
    ...   state = training.train(method, optimizer, source, steps=2, workdir=workdir)
    step 2/2  loss ...
    >>> int(state.step)
    2
  """
  check_seed(seed)
  check_integer("steps", steps, 1, MOST_STEPS)
  check_integer("log_every", log_every, 1)
  check_integer("eval_every", eval_every, 1)
  check_integer("checkpoint_every", checkpoint_every, 1)
  _check_source(source)
  examples = getattr(method, "examples", 0)  # Methods without tables do not need it.
  if 0 < examples < source.size:
    raise UserError(
      f"the data have {source.size:,} examples, but the method's examples are {examples:,}; give it "
      "examples=…, the size of the data"
    )
  mesh = make_mesh() if mesh is None else mesh
  workdir = pathlib.Path(workdir)
  workdir.mkdir(parents=True, exist_ok=True)
  with contextlib.closing(Checkpoints(workdir / "checkpoints")) as checkpoints:
    segments = None
    if refresh is not None:
      segments = Segments(refresh, method, source, workdir / "refresh", checkpoints)
    source_at = _constant(source) if segments is None else segments.at
    first = source if segments is None else segments.current
    state = init(method, optimizer, first.batch(0), seed=seed, mesh=mesh)
    del first  # It may hold arrays of a refresh that later segments do not need.
    train_step = make_train_step(method, optimizer, mesh)
    fingerprint = source.fingerprint ^ (0 if refresh is None else refresh.fingerprint)
    data = np.asarray(fingerprint, np.uint32)
    restored = checkpoints.newest_intact(tidy=True)
    if restored is not None:
      if restored > steps:
        raise UserError(
          f"{workdir} is already at step {restored}, beyond steps = {steps}; "
          "raise steps, or give another workdir"
        )
      state = _restore(checkpoints, restored, state, data)
    step, lowered = restored or 0, None
    if step < steps:
      batch = source_at(step, state).batch(step)
      lowered = train_step.lower(state, batch)  # Errors of the method are raised here.
    if accepted is not None:
      accepted()
    _save_spec(workdir, method, source, encoder, networks, has_average(state))
    if lowered is None:
      cut(workdir / "metrics.jsonl", step)
      print(f"finished: checkpoint {step} is the last one and intact", flush=True)
      return state
    if restored:
      print(f"resuming from checkpoint {restored}", flush=True)

    log = Log(
      workdir,
      restored=restored,
      steps=steps,
      batch_size=source.batch_size,
      every=log_every,
      loggers=loggers,
    )
    with (
      ThreadPoolExecutor(1) as executor,
      contextlib.closing(log),
      _handled_signals(stop) as stop,
      stop.deferred(),
    ):
      # The step is compiled while the first state is evaluated and saved.
      compiled = executor.submit(lowered.compile)
      while True:
        # A signal may arrive at any time, so `stop` is read once per step.
        last, stopping = step == steps, bool(stop)
        due = evaluate if last or step % eval_every == 0 else None
        save = last or stopping or step % checkpoint_every == 0
        if step != restored and (due is not None or save):
          with log.aside():
            if due is not None:
              log.write(step, due(state))
            if save:
              log.flush()
              checkpoints.save(step, {**state._asdict(), "data": data})
        if last or stopping:
          break
        if refresh is not None and step % refresh.every == 0:
          with log.aside():
            source_at(step, state)
        compiled.result()
        batch = block_on_virtual_devices(source_at(step, state).batch(step), mesh)
        state, metrics = block_on_virtual_devices(train_step(state, batch), mesh)
        step += 1
        log.add(step, metrics)
      checkpoints.wait()
  return state


def _check_source(source: Any) -> None:
  if isinstance(source, Mapping | Dataset):
    arrays = "dataset.train" if isinstance(source, Dataset) else "arrays"
    raise UserError(
      f"source must be a source of batches, such as data.Resident({arrays}, batch_size=…), not "
      f"{type(source).__name__}"
    )


def _save_spec(
  workdir: pathlib.Path,
  method: Method,
  source: Source,
  encoder: Any,
  networks: Mapping[str, Mapping[str, Any]] | None,
  averaged: bool,
) -> None:
  """Writes encoder.json if the method has a network that is evaluated."""
  if not isinstance(method, HasEvaluated):
    return
  arrays = source.arrays if isinstance(source, OrderedSource) else source.batch(0)
  network, names, _ = method.evaluated
  if {*_listed(names)} <= {*arrays}:  # Otherwise the method computes the input from other fields.
    others = {
      name: {**entry, "inputs": select(arrays, entry["fields"])} if "fields" in entry else entry
      for name, entry in (networks or {}).items()
      if name != network and {*_listed(entry.get("fields", ()))} <= {*arrays}
    }
    inputs = select(arrays, names)
    save_encoder_spec(
      workdir, encoder, network, inputs, fields=names, networks=others, averaged=averaged
    )


def _listed(names: str | tuple[str, ...]) -> tuple[str, ...]:
  return (names,) if isinstance(names, str) else names


def _constant(source: Source) -> Callable[[int, TrainState], Source]:
  return lambda step, state: source


def _handled_signals(stop: Stop | None) -> contextlib.AbstractContextManager[Stop]:
  """Returns a context that handles signals, or does nothing outside the main thread."""
  if stop is not None:
    return contextlib.nullcontext(stop)
  main = threading.current_thread() is threading.main_thread()
  return Stop() if main else contextlib.nullcontext(Stop())


def _restore(
  checkpoints: Checkpoints, step: int, state: TrainState, data: np.ndarray
) -> TrainState:
  """Restores a checkpoint and checks that the fingerprint of its data is the same."""
  tree = checkpoints.restore(step, {**state._asdict(), "data": data})
  if tree.pop("data") != data:
    raise UserError(
      f"the data are not those that checkpoint {step} was trained on: their examples, their order, or "
      "the refresh have changed; use those again, or start in another workdir"
    )
  return TrainState(**tree)
