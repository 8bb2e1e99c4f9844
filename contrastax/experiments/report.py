"""What a run says of itself: before (`dry_run`), while (`progress`) and after (`finish`)."""

from __future__ import annotations

import contextlib
import functools
import pathlib
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np

from contrastax import evaluation, reporting, training
from contrastax.core import UserError, named_leaves
from contrastax.evaluation.embed import count_rows
from contrastax.experiments import negatives, temperatures
from contrastax.experiments.build import inputs_of
from contrastax.experiments.figures import figure
from contrastax.experiments.judge import WATCHED, few_labels, geometry, spaces
from contrastax.files import make_folder, read_json, replace_damaged, write_json
from contrastax.methods.base import MAIN, all_terms
from contrastax.terms import Contrast
from contrastax.training.health import check_collapse

MAPPED = 1000  # test images in the map


def dry_run(config, parts, mesh) -> None:
  """Shapes, parameter counts, memory of the compiled step and the mesh; trains nothing."""
  batch = parts.first_batch()
  state = training.init(parts.method, parts.optimizer, batch, seed=config.seed, mesh=mesh)
  step = training.make_train_step(parts.method, parts.optimizer, mesh)
  memory = step.lower(state, batch).compile().memory_analysis()
  print(f"mesh: {dict(mesh.shape)}, batch {config.batch_size // mesh.size} on each device")
  train, test = (count_rows(split) for split in parts.dataset[:2])
  print(f"data: {config.data}, {train:,} training and {test:,} test examples")
  for name, values in named_leaves(batch):
    print(f"batch {name}: {list(values.shape)} {values.dtype}")
  for name, params in state.params.items():
    if jax.tree.leaves(params):
      print(f"{name}: {_count(params):,} parameters")
      for name, leaf in named_leaves(params):
        print(f"  {name}: {list(leaf.shape)} {leaf.dtype}")
  print(
    f"train step, each device: {memory.argument_size_in_bytes / 2**20:.1f} MiB of arguments, "
    f"{memory.temp_size_in_bytes / 2**20:.1f} MiB of temporaries"
  )


def progress(config, parts, state) -> dict[str, float]:
  """Metrics of the training examples alone; the test examples are not touched.

  With `stop_on_collapse` a space that has collapsed ends the run.
  """
  inputs, labels = _head(parts.method, parts.dataset.train, WATCHED)
  encode = _encoder(parts.method, state)
  features = encode(inputs)
  measured = geometry(encode, parts.method.evaluated.views, inputs, labels, features)
  measured |= temperatures.measure(parts.method, state)
  metrics = {f"eval/{name}": value for name, value in measured.items()}
  if config.stop_on_collapse:
    check_collapse(int(state.step), config.steps, metrics)
  if labels is not None:
    metrics["eval/knn"] = evaluation.knn_leave_one_out(features, labels)
  return metrics


def finish(config, parts, mesh, workdir: pathlib.Path, state, seconds: float) -> dict:
  """Judges the run on the test images: prints the table, writes summary.json and figures."""
  train, test = parts.dataset.train, parts.dataset.test
  judged_on = "validation" if config.validation else "test"
  kinds = "kNN, linear probes and geometry" if "label" in test else "geometry"
  print(f"judging: {kinds} of {count_rows(test):,} {judged_on} examples", flush=True)
  fresh = training.init(
    parts.method, parts.optimizer, parts.first_batch(), seed=config.seed, mesh=mesh
  )
  encoders = {
    row: _encoder(parts.method, at) for row, at in {"untrained": fresh, "trained": state}.items()
  }
  features = spaces(encoders, *(inputs_of(parts.method, split) for split in (train, test)))
  inputs, labels = _head(parts.method, test, WATCHED)
  splits = {
    row: (ours, train["label"], theirs, test["label"])
    for row, (ours, theirs) in (features.items() if labels is not None else ())
  }
  with _aside() as aside:  # the linear probes are fitted while the rest is judged
    linear = {row: aside.submit(evaluation.linear, *split) for row, split in splits.items()}
    few = {row: few_labels(*split) for row, split in splits.items()}
    summary = {
      "table": {
        row: {
          "knn": evaluation.knn(*split),
          **{name: found["mean"] for name, found in few[row].items()},
        }
        for row, split in splits.items()
      },
      "half_intervals": {
        row: {name: found["half_interval"] for name, found in values.items()}
        for row, values in few.items()
      },
      "geometry": {
        row: geometry(
          encode, parts.method.evaluated.views, inputs, labels, features[row][1][:WATCHED]
        )
        for row, encode in encoders.items()
      },
      "judged_on": judged_on,
      "data": config.data,
      "seed": config.seed,
      "steps": config.steps,
      "parameters": {name: _count(params) for name, params in state.params.items()},
      "train_seconds": seconds,
    }
    for row, accuracy in linear.items():
      summary["table"][row]["linear"] = accuracy.result()
  if labels is not None:
    print(reporting.table.text(summary["table"]))
  else:
    print("the data have no labels: no probes; the geometry of the space is in summary.json")
  figures, path = workdir / "figures", workdir / "summary.json"
  print(f"figures: drawing them in {figures}/", flush=True)
  make_folder(figures)
  if isinstance(all_terms(parts.method).get(MAIN), Contrast):
    summary["negatives"] = negatives.report(parts, state, figures)
  found = temperatures.report(parts, state, workdir, figures)
  if found is not None:
    summary["temperatures"] = found
  write_json(path, summary)  # before the map: t-SNE is compiled code, which can end the process
  with figure(figures / "learning_curves.png") as place:
    reporting.learning_curves(workdir / "metrics.jsonl", place)
  with figure(figures / "map.png") as place:
    reporting.space_map(
      {row: features[row][1][:MAPPED] for row in ("raw", "trained") if row in features},
      np.zeros(count_rows(inputs), int)[:MAPPED] if labels is None else labels[:MAPPED],
      ("examples",) if labels is None else parts.dataset.classes,
      place,
    )
  summary["figures"] = sorted(drawn.name for drawn in figures.glob("*.png"))
  write_json(path, summary)
  return summary


def is_finished(workdir: pathlib.Path, steps: int) -> bool:
  """Whether the report of a run of so many steps is complete: its summary lists the figures.

  A damaged summary is set aside.
  """
  path = workdir / "summary.json"
  try:
    found = read_json(path, dict)
    return found.get("steps") == steps and "figures" in found
  except FileNotFoundError:
    return False
  except UserError as error:
    replace_damaged(path, str(error))
    return False


@contextlib.contextmanager
def _aside():
  """A thread for work beside the main thread's. A command that is stopped waits for one task at most."""
  thread = ThreadPoolExecutor(1)
  try:
    yield thread
  finally:
    thread.shutdown(wait=False, cancel_futures=True)


def _encoder(method, state):
  network = method.evaluated.network
  own = state.params[network], state.state[network]
  return functools.partial(evaluation.embed, method.network(network), *own)


def _head(method, arrays, count):
  inputs = jax.tree.map(lambda rows: rows[:count], inputs_of(method, arrays))
  return inputs, arrays["label"][:count] if "label" in arrays else None


def _count(params):
  return sum(leaf.size for leaf in jax.tree.leaves(params))
