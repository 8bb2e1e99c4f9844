"""What a run says of itself: before (`dry_run`), while (`progress`) and after (`finish`)."""

from __future__ import annotations

import json
import pathlib

import jax
import numpy as np

from contrastax import evaluation, reporting, training, views
from contrastax.core import key_for
from contrastax.training.health import check_collapse
from experiments.workdir import write_json

WATCHED = (
  2000  # images whose space is measured: of the training set while training, then of the test set
)
MAPPED = 1000  # test images in the map


def dry_run(config, parts, mesh) -> None:
  """Shapes, parameter counts, memory of the compiled step and the mesh; trains nothing."""
  batch = parts.source.batch(0)
  state = training.init(parts.method, parts.optimizer, batch, seed=config.seed, mesh=mesh)
  step = training.make_train_step(parts.method, parts.optimizer, mesh)
  memory = step.lower(state, batch).compile().memory_analysis()
  print(f"mesh: {dict(mesh.shape)}, batch {config.batch_size // mesh.size} on each device")
  sizes = {split: len(getattr(parts.dataset, split)["image"]) for split in ("train", "test")}
  print(f"data: {config.data}, {sizes['train']:,} training and {sizes['test']:,} test images")
  for name, values in batch.items():
    print(f"batch {name}: {list(values.shape)} {values.dtype}")
  for name, params in state.params.items():
    if jax.tree.leaves(params):
      print(f"{name}: {_count(params):,} parameters")
      for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        print(f"  {'/'.join(str(entry.key) for entry in path)}: {list(leaf.shape)} {leaf.dtype}")
  print(
    f"train step, each device: {memory.argument_size_in_bytes / 2**20:.1f} MiB of arguments, "
    f"{memory.temp_size_in_bytes / 2**20:.1f} MiB of temporaries"
  )


def progress(config, parts, state) -> dict[str, float]:
  """Metrics of the training images alone; the test images are not touched.

  With `stop_on_collapse` a space that has collapsed ends the run.
  """
  images, labels = _head(parts.dataset.train, WATCHED)
  features = _embed(parts.method, state, images)
  geometry = _geometry(parts, state, images, labels, features)
  metrics = {f"eval/{name}": value for name, value in geometry.items()}
  if config.stop_on_collapse:
    check_collapse(int(state.step), config.steps, metrics)
  if labels is not None:
    metrics["eval/knn"] = evaluation.knn_leave_one_out(features, labels)
  return metrics


def finish(config, parts, mesh, workdir: pathlib.Path, state, seconds: float) -> dict:
  """Judges the run on the test images: prints the table, writes summary.json and figures."""
  train, test = parts.dataset.train, parts.dataset.test
  fresh = training.init(
    parts.method, parts.optimizer, parts.source.batch(0), seed=config.seed, mesh=mesh
  )
  features = {
    "raw": [_flat(images["image"]) for images in (train, test)],
    **{
      row: [_embed(parts.method, at, images["image"]) for images in (train, test)]
      for row, at in {"untrained": fresh, "trained": state}.items()
    },
  }
  images, labels = _head(test, WATCHED)
  summary = {
    "table": {},
    "geometry": {
      row: _geometry(parts, at, images, labels, features[row][1][:WATCHED])
      for row, at in {"untrained": fresh, "trained": state}.items()
    },
    "judged_on": "validation" if config.validation else "test",
    "data": config.data,
    "seed": config.seed,
    "steps": config.steps,
    "parameters": {name: _count(params) for name, params in state.params.items()},
    "train_seconds": seconds,
  }
  if labels is not None:
    summary["table"] = {
      row: evaluation.probes(ours, train["label"], theirs, test["label"])
      for row, (ours, theirs) in features.items()
    }
    print(reporting.table.text(summary["table"]))
  else:
    print("the data have no labels: no probes; the geometry of the space is in summary.json")
  figures = workdir / "figures"
  figures.mkdir(exist_ok=True)
  reporting.learning_curves(workdir / "metrics.jsonl", figures / "learning_curves.png")
  reporting.space_map(
    {row: features[row][1][:MAPPED] for row in ("raw", "trained")},
    np.zeros(len(images), int)[:MAPPED] if labels is None else labels[:MAPPED],
    ("images",) if labels is None else parts.dataset.classes,
    figures / "map.png",
  )
  write_json(workdir / "summary.json", summary)
  return summary


def stands(workdir: pathlib.Path, steps: int) -> bool:
  """Whether the summary of a run of so many steps is there already."""
  path = workdir / "summary.json"
  return path.exists() and json.loads(path.read_text())["steps"] == steps


def _geometry(parts, state, images, labels, features):
  """Of the features of images; alignment: of the features of two random views of each."""
  index = np.arange(len(images), dtype=np.int32)
  keys = jax.random.split(key_for(0, "alignment"))
  pair = [np.asarray(_view(parts.method.views, key, images, index)) for key in keys]
  measured = _measure(*(_embed(parts.method, state, each) for each in pair), features, labels)
  return {name: float(measured[name]) for name in measured}


_view = jax.jit(lambda recipe, key, images, index: recipe(key, images, index), static_argnums=0)


@jax.jit
def _measure(x, y, z, labels):
  measures = {
    "alignment": evaluation.alignment(x, y),
    "uniformity": evaluation.uniformity(z),
    "effective_rank": evaluation.effective_rank(z),
    "embedding_std": evaluation.embedding_std(z),
  }
  return measures if labels is None else {**measures, "tolerance": evaluation.tolerance(z, labels)}


def _embed(method, state, images):
  params, own = state.params["encoder"], state.state["encoder"]
  return evaluation.embed(method.encoder, params, own, images)


def _head(arrays, count):
  return arrays["image"][:count], arrays["label"][:count] if "label" in arrays else None


def _flat(images):
  return np.asarray(views.to_float(images), np.float32).reshape(len(images), -1)


def _count(params):
  return sum(leaf.size for leaf in jax.tree.leaves(params))
