"""The command `contrastax evaluate`: all measurements of one run, see `HELP`."""

from __future__ import annotations

import functools
import pathlib
from collections.abc import Collection, Mapping
from typing import Any

import jax
from absl import flags
from jax.sharding import Mesh

from contrastax import evaluation, load, training
from contrastax.core import TrainState, UserError, named_leaves
from contrastax.evaluation.embed import count_rows
from contrastax.evaluation.probes import DRAWS
from contrastax.experiments import commandline, page, protocols
from contrastax.experiments.build import Parts, build, inputs_of
from contrastax.experiments.cache import keep_programs
from contrastax.experiments.page_sections import DEFINITIONS
from contrastax.experiments.report import is_finished
from contrastax.experiments.schema import data_name
from contrastax.experiments.workdir import config_of
from contrastax.files import write_json
from contrastax.reporting import table
from contrastax.training.load import FrozenEncoder

HELP = f"""Evaluates a run at its last checkpoint: probes, retrieval and geometry.

  contrastax evaluate runs/digits_simclr
  contrastax evaluate runs/digits_simclr --finetune                 fine-tune on 1 % and 10 % of the labels
  contrastax evaluate runs/digits_simclr --data=tfds:fashion_mnist  transfer to another data set
  contrastax evaluate runs/digits_simclr --against=runs/other       compare with another run by CKA
  contrastax evaluate runs/digits_simclr --allow=mymodule           evaluate a run with parts of your own

In a checkout, `python -m experiments.evaluate runs/digits_simclr` is the same program. Flags may be
combined. The data, the seed and the validation split are those of the run's config.json. The results
are printed. They are also written, with the values of all draws, to evaluation.json in the run's
folder, where they replace earlier results, and to report.html. The page "How is an encoder evaluated?" of the
documentation defines each measurement:
{DEFINITIONS}

Exit status: 0 finished; 2 invalid input, explained in one line.
"""

TITLES = {
  "probes": f"kNN and linear probes, accuracy (± 95 % over {DRAWS} draws of labels)",
  "retrieval": "retrieval among the test examples",
  "geometry": "geometry of the test examples' space",
  "fine_tune": f"fine-tuning, accuracy by share of labels (± 95 % over {protocols.SEEDS} seeds)",
}


def main(argv: list[str]) -> int:
  """Runs one command line and returns its exit status.

  Args:
    argv: the program's name and the arguments.
  """
  return commandline.status(functools.partial(_main, argv))


def _main(argv: list[str]) -> None:
  options = parse(argv)
  if options:
    workdir = pathlib.Path(options.workdir)
    evaluate(workdir, options.data, options.against, options.finetune, options.allow)
    print(f"\nsee {workdir}/evaluation.json; each measurement is defined in {DEFINITIONS}")


def parse(argv: list[str]) -> flags.FlagValues | None:
  """Parses a command line of `contrastax evaluate`.

  Args:
    argv: the program's name and the arguments.

  Returns:
    The values of the flags, or None if help was printed.

  Raises:
    UserError: the arguments are invalid.
  """
  values = flags.FlagValues()
  flags.DEFINE_bool("finetune", False, "fine-tune with few labels", flag_values=values)
  flags.DEFINE_string("data", None, "another data set to transfer to", flag_values=values)
  flags.DEFINE_string(
    "against", None, "the folder of another run to compare with", flag_values=values
  )
  return values if commandline.parse_run(argv, values, HELP) else None


def evaluate(
  workdir: pathlib.Path,
  other: str | None,
  against: str | None,
  finetune: bool,
  allow: Collection[str] = (),
) -> dict[str, Any]:
  """Evaluates a run, prints the results as tables, and writes them to evaluation.json.

  If the run is finished, its report.html is written again, with these results.

  Args:
    workdir: the folder of the run.
    other: the name of another data set to transfer to, or None.
    against: the folder of another run to compare with, or None.
    finetune: whether the encoder is fine-tuned with few labels.
    allow: the modules of the user that may be imported.

  Returns:
    The content of evaluation.json: {protocol: {row: {column: value}}}, and what was evaluated.

  Raises:
    UserError: a folder has no run, or the run does not fit the request.
  """
  keep_programs()
  config, run = config_of(workdir), load(workdir, allow=allow)
  settings, mesh = config.to_dict(), training.make_mesh(jax.devices()[:1])
  try:
    parts = build(config, mesh, allow=allow)
  except UserError as error:
    raise UserError(f"{workdir}/config.json: {error}") from error
  train, test = ({**split, "inputs": inputs_of(parts.method, split)} for split in parts.judged[:2])
  if finetune and "label" not in train:
    raise UserError(f"fine-tuning needs labels; {data_name(settings)} has none")
  target = None
  if other:
    check_images(run, workdir)
    target = protocols.splits(run, other, settings["validation"])
  peer = load_peer(run.inputs, against, allow) if against else None

  results = {
    "step": run.step,
    "steps": settings["steps"],
    "judged_on": "validation" if settings["validation"] else "test",
    "data": data_name(settings),
    "seed": settings["seed"],
  }
  print(
    f"{workdir}: step {run.step} of {settings['steps']}, the last checkpoint; "
    f"evaluated on the {results['judged_on']} split, {count_rows(test['inputs']):,} examples"
  )
  network, _, recipes = parts.method.evaluated
  networks = {
    row: (run.encoder, state.params[network], state.state[network])
    for row, state in begun(parts, settings["seed"], mesh).items()
  }
  networks["trained"] = (run.encoder, run.params, run.state)
  encoders = {row: functools.partial(evaluation.embed, *of_row) for row, of_row in networks.items()}
  if "label" in train:
    results |= protocols.frozen(encoders, train, test)
    show(results)
  else:
    print(f"{data_name(settings)} has no labels: no probes, no retrieval")
  results["geometry"] = protocols.geometry(encoders, recipes, test["inputs"], test.get("label"))
  show({"geometry": results["geometry"]})
  if finetune:
    results["fine_tune"] = protocols.fine_tuned(networks, train, test)
    show({"fine_tune": results["fine_tune"]})
  if target:
    transfer = protocols.frozen(encoders, *target)
    results["transfer"] = {"data": other, **transfer}
    print(f"\ntransfer to {other}:")
    show(transfer)
  if peer:
    features, peer_features = run(test["inputs"]), peer(test["inputs"])
    biased, unbiased = (
      evaluation.cka(features, peer_features, unbiased=unbiased) for unbiased in (False, True)
    )
    results["cka"] = {"against": against, "step": peer.step, "cka": biased, "unbiased": unbiased}
    print(f"\nCKA with {against}, step {peer.step}: {biased:.3f}, unbiased {unbiased:.3f}")
  write_json(workdir / "evaluation.json", results)
  if is_finished(workdir, run.step):
    page.write(settings, parts, workdir, encoders["trained"])
  return results


def begun(parts: Parts, seed: int, mesh: Mesh) -> dict[str, TrainState]:
  """Returns the states before the first step.

  Args:
    parts: the experiment.
    seed: the seed of the run.
    mesh: the devices.

  Returns:
    `untrained`, with random weights, and `start`, with the weights of a file, if the experiment starts
    from one that can still be read.
  """
  batch = parts.first_batch()
  states = {
    "untrained": training.init(parts.from_scratch, parts.optimizer, batch, seed=seed, mesh=mesh)
  }
  if parts.from_scratch is not parts.method:
    try:
      states["start"] = training.init(parts.method, parts.optimizer, batch, seed=seed, mesh=mesh)
    except UserError as error:
      print(f"the row 'start' is left out: {error}")
  return states


def check_images(run: FrozenEncoder, workdir: pathlib.Path) -> None:
  """Raises UserError if an encoder takes other inputs than images."""
  if not (isinstance(run.inputs, jax.ShapeDtypeStruct) and len(run.inputs.shape) == 3):
    raise UserError(
      f"the encoder of {workdir} takes no images, so it cannot be transferred to another data set"
    )


def load_peer(inputs: Any, workdir: str, allow: Collection[str] = ()) -> FrozenEncoder:
  """Returns the encoder of another run.

  Args:
    inputs: the shapes and types of one example of the evaluated run.
    workdir: the folder of the other run.
    allow: the modules of the user that may be imported.

  Raises:
    UserError: there is no such run, or its encoder takes other inputs.
  """
  peer = load(workdir, allow=allow)
  if peer.inputs != inputs:
    raise UserError(f"{workdir} takes {shown(peer.inputs)}, not this run's {shown(inputs)}")
  return peer


def shown(inputs: Any) -> str:
  """Returns the shapes and types of one example, as text."""
  return ", ".join(
    f"{name} {list(leaf.shape)} {leaf.dtype}".strip() for name, leaf in named_leaves(inputs)
  )


def show(results: Mapping[str, Any]) -> None:
  """Prints the tables of the protocols."""
  for name, title in TITLES.items():
    if name in results:
      print(f"\n{title}\n{table.text(results[name])}")
