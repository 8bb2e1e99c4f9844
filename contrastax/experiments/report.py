"""What a run prints and writes before (`dry_run`), during (`progress`) and after (`finish`) training."""

from __future__ import annotations

import contextlib
import functools
import pathlib
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from contrastax import evaluation, reporting, training
from contrastax.core import HasEvaluated, TrainState, UserError, named_leaves
from contrastax.evaluation.embed import count_rows
from contrastax.experiments import negatives, temperatures
from contrastax.experiments.build import Parts, inputs_of
from contrastax.experiments.figures import figure
from contrastax.experiments.measures import (
  MEASURED,
  Encode,
  few_labels,
  first_rows,
  geometry,
  spaces,
)
from contrastax.experiments.paired import fingerprint, pack
from contrastax.experiments.partners import partners
from contrastax.experiments.schema import data_name
from contrastax.files import make_folder, read_json, replace_damaged, write_json
from contrastax.training.health import check_collapse

EXAMPLES_IN_MAP = 1000


def dry_run(config: Mapping[str, Any], parts: Parts, mesh: Mesh) -> None:
  """Prints the mesh, shapes, parameter counts, and the memory of the compiled step; trains nothing."""
  batch = parts.first_batch()
  state = training.init(parts.method, parts.optimizer, batch, seed=config["seed"], mesh=mesh)
  step = training.make_train_step(parts.method, parts.optimizer, mesh)
  memory = step.lower(state, batch).compile().memory_analysis()
  print(f"mesh: {dict(mesh.shape)}, batch {config['batch_size'] // mesh.size} on each device")
  train, test = (count_rows(split) for split in parts.dataset[:2])
  print(f"data: {data_name(config)}, {train:,} training and {test:,} test examples")
  for name, values in named_leaves(batch):
    print(f"batch {name}: {list(values.shape)} {values.dtype}")
  for network, params in state.params.items():
    if jax.tree.leaves(params):
      print(f"{network}: {_count(params):,} parameters")
      for name, leaf in named_leaves(params):
        print(f"  {name}: {list(leaf.shape)} {leaf.dtype}")
  if memory is None:  # Not every device reports it.
    return
  print(
    f"train step, each device: {memory.argument_size_in_bytes / 2**20:.1f} MiB of arguments, "
    f"{memory.temp_size_in_bytes / 2**20:.1f} MiB of temporaries"
  )


def progress(config: Mapping[str, Any], parts: Parts, state: TrainState) -> dict[str, float]:
  """Returns the metrics of an evaluation during training, which uses training examples only.

  Raises:
    TrainingDiverged: the embeddings have collapsed, and the config has `stop_on_collapse`.
  """
  inputs, labels = _first(parts.method, parts.judged.train, MEASURED)
  encode = encoder_of(parts.method, state)
  features = encode(inputs)
  measured = geometry(encode, parts.method.evaluated.views, inputs, labels, features)
  measured |= temperatures.measure(parts.method, state)
  metrics = {f"eval/{name}": value for name, value in measured.items()}
  if config["stop_on_collapse"]:
    check_collapse(int(state.step), config["steps"], metrics)
  if labels is not None:
    metrics["eval/knn"] = evaluation.knn_leave_one_out(features, labels)
  return metrics


def finish(
  config: Mapping[str, Any],
  parts: Parts,
  mesh: Mesh,
  workdir: pathlib.Path,
  state: TrainState,
  seconds: float,
) -> dict[str, Any]:
  """Evaluates a finished run on the test examples, prints the table, and writes the report.

  Args:
    config: the completed config.
    parts: the experiment.
    mesh: the devices.
    workdir: the folder of the run, in which summary.json and figures/ are written.
    state: the state after the last step.
    seconds: the time that training took.

  Returns:
    The content of summary.json.
  """
  train, test = parts.judged.train, parts.judged.test
  split_name = "validation" if config["validation"] else "test"
  kinds = "kNN, linear probes and geometry" if "label" in test else "geometry"
  print(f"evaluating: {kinds} of {count_rows(test):,} {split_name} examples", flush=True)
  begun = functools.partial(
    training.init,
    optimizer=parts.optimizer,
    batch=parts.first_batch(),
    seed=config["seed"],
    mesh=mesh,
  )
  states = {"untrained": begun(parts.from_scratch)}
  if parts.from_scratch is not parts.method:
    states["start"] = begun(parts.method)
  states["trained"] = state
  encoders = {row: encoder_of(parts.method, of_row) for row, of_row in states.items()}
  features = spaces(encoders, *(inputs_of(parts.method, split) for split in (train, test)))
  inputs, labels = _first(parts.method, test, MEASURED)
  splits = {
    row: (train_features, train["label"], test_features, test["label"])
    for row, (train_features, test_features) in (features.items() if labels is not None else ())
  }
  with _worker() as worker:
    # The linear probes are fitted while the main thread computes the rest.
    linear = {
      row: worker.submit(evaluation.linear_predictions, *split[:3]) for row, split in splits.items()
    }
    few = {row: few_labels(*split) for row, split in splits.items()}
    knn = {row: evaluation.knn_predictions(*split[:3]) for row, split in splits.items()}
    summary = {
      "table": {},
      "half_intervals": {
        row: {name: entry["half_interval"] for name, entry in columns.items()}
        for row, columns in few.items()
      },
      "draws": {
        row: {name: entry["values"] for name, entry in columns.items()}
        for row, columns in few.items()
      },
      "geometry": {
        row: geometry(
          encode, parts.method.evaluated.views, inputs, labels, features[row][1][:MEASURED]
        )
        for row, encode in encoders.items()
      },
      "judged_on": split_name,
      "data": data_name(config),
      "fingerprint": fingerprint(train, test),
      "examples": {
        "trained_on": count_rows(parts.dataset.train),
        "train": count_rows(train),
        "test": count_rows(test),
      },
      "seed": config["seed"],
      "steps": config["steps"],
      "parameters": {name: _count(params) for name, params in state.params.items()},
      "train_seconds": seconds,
    }
    correct = {
      row: {"knn": knn[row] == split[3], "linear": linear[row].result() == split[3]}
      for row, split in splits.items()
    }
  results: dict[str, dict[str, float]] = {
    row: {
      "knn": float(np.mean(columns["knn"])),
      **{name: entry["mean"] for name, entry in few[row].items()},
      "linear": float(np.mean(columns["linear"])),
    }
    for row, columns in correct.items()
  }
  summary["table"] = results
  summary["correct"] = {
    row: {name: pack(each) for name, each in columns.items()} for row, columns in correct.items()
  }
  if labels is not None:
    print(reporting.table.text(results))
  else:
    print("the data have no labels: no probes; the geometry of the space is in summary.json")
  found = partners(parts.method, states, test)
  if found is not None:
    summary["partners"] = found
    print(reporting.table.text(found["recall"]))
  figures, path = workdir / "figures", workdir / "summary.json"
  print(f"figures: drawing them in {figures}/", flush=True)
  make_folder(figures)
  entries = {
    "negatives": negatives.report(parts, state, figures),
    "temperatures": temperatures.report(parts, state, workdir, figures),
  }
  summary |= {name: entry for name, entry in entries.items() if entry is not None}
  # The summary is written before the map, because an error in the compiled code of t-SNE can end the
  # process.
  write_json(path, summary)
  with figure(figures / "learning_curves.png") as file:
    reporting.learning_curves(workdir / "metrics.jsonl", file)
  with figure(figures / "map.png") as file:
    points = reporting.space_map(
      {row: features[row][1][:EXAMPLES_IN_MAP] for row in ("raw", "trained") if row in features},
      (np.zeros(count_rows(inputs), int) if labels is None else labels)[:EXAMPLES_IN_MAP],
      ("examples",) if labels is None else parts.dataset.classes,
      file,
    )
    # report.html draws the same points in the colors of the page.
    write_json(
      figures / "map.json", {title: each.round(3).tolist() for title, each in points.items()}
    )
  summary["figures"] = sorted(file.name for file in figures.glob("*.png"))
  write_json(path, summary)
  return summary


def is_finished(workdir: pathlib.Path, steps: int) -> bool:
  """Returns whether the report of a run of so many steps is complete.

  It is complete if summary.json lists the figures, and has what comparisons need, which older
  versions did not write. A damaged summary.json is renamed.
  """
  path = workdir / "summary.json"
  try:
    summary = read_json(path, dict)
    return summary.get("steps") == steps and {"figures", "fingerprint"} <= summary.keys()
  except FileNotFoundError:
    return False
  except UserError as error:
    replace_damaged(path, str(error))
    return False


@contextlib.contextmanager
def _worker() -> Iterator[ThreadPoolExecutor]:
  """Starts a thread for work beside the main thread.

  A command that is stopped waits for the running task only.
  """
  thread = ThreadPoolExecutor(1)
  try:
    yield thread
  finally:
    thread.shutdown(wait=False, cancel_futures=True)


def encoder_of(method: HasEvaluated, state: TrainState) -> Encode:
  """Returns the evaluated encoder of a method, in a state."""
  own = training.evaluated_weights(method, state)
  return functools.partial(evaluation.embed, method.network(method.evaluated.network), *own)


def _first(
  method: HasEvaluated, arrays: Mapping[str, Any], count: int
) -> tuple[Any, np.ndarray | None]:
  """Returns the inputs and the labels of the first examples of a split."""
  inputs = first_rows(inputs_of(method, arrays), count)
  return inputs, arrays["label"][:count] if "label" in arrays else None


def _count(params: Any) -> int:
  return sum(leaf.size for leaf in jax.tree.leaves(params))
