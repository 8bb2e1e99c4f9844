"""Judges a run in full, at its last checkpoint; `HELP` says how."""

from __future__ import annotations

import functools
import pathlib
from collections.abc import Collection

import jax
from absl import flags

from contrastax import evaluation, load, training
from contrastax.core import UserError, named_leaves
from contrastax.evaluation.embed import count_rows
from contrastax.evaluation.probes import DRAWS
from contrastax.experiments import commandline, protocols
from contrastax.experiments.build import build, inputs_of
from contrastax.experiments.cache import keep_programs
from contrastax.experiments.workdir import config_of
from contrastax.files import write_json
from contrastax.reporting import table

HELP = """Evaluates a run in full, at its last checkpoint: probes, retrieval and geometry.

  contrastax evaluate runs/digits_simclr
  contrastax evaluate runs/digits_simclr --finetune                 fine-tune on 1 % and 10 % of the labels
  contrastax evaluate runs/digits_simclr --data=tfds:fashion_mnist  transfer to another data set
  contrastax evaluate runs/digits_simclr --against=runs/other       CKA with another run
  contrastax evaluate runs/digits_simclr --allow=mymodule           a run with parts of your own

In a checkout, `python -m experiments.evaluate --workdir=…` is the same program. Flags may be
combined. The data, the seed and the validation split are those of the run's config.json. The results
are printed, and written to evaluation.json in the run's folder with the values of all draws; an
earlier evaluation.json is replaced. docs/evaluation.md defines each figure.

Exit status: 0 finished; 2 invalid input, explained in one line.
"""

TITLES = {
  "probes": f"kNN and linear probes, accuracy (± 95 % over {DRAWS} draws of labels)",
  "retrieval": "retrieval among the test examples",
  "geometry": "geometry of the test examples' space",
  "fine_tune": f"fine-tuning, accuracy by share of labels (± 95 % over {protocols.SEEDS} seeds)",
}


def main(argv: list[str]) -> int:
  """The exit status of one command line."""
  return commandline.status(functools.partial(_main, argv))


def _main(argv):
  options = parse(argv)
  if options:
    workdir = pathlib.Path(options.workdir)
    found = evaluate(workdir, options.data, options.against, options.finetune, options.allow)
    write_json(workdir / "evaluation.json", found)
    print(f"\nsee {workdir}/evaluation.json; docs/evaluation.md defines each figure")


def parse(argv: list[str]) -> flags.FlagValues | None:
  """The flags, or None after printing help; UserError for what is wrong with them."""
  if any(argument in ("--help", "-help", "-h", "help") for argument in argv[1:]):
    print(HELP.strip())
    return None
  values = flags.FlagValues()
  flags.DEFINE_string("workdir", None, "the run to judge", flag_values=values)
  flags.DEFINE_bool("finetune", False, "fine-tune with few labels", flag_values=values)
  flags.DEFINE_string("data", None, "another data set, to transfer to", flag_values=values)
  flags.DEFINE_list("allow", [], "modules of your own to import", flag_values=values)
  flags.DEFINE_string("against", None, "another run, to compare with", flag_values=values)
  try:
    rest = values(argv)[1:]
  except flags.Error as error:
    raise UserError(" ".join(str(error).split())) from None
  if len(rest) == 1 and values.workdir is None:
    values.workdir = rest.pop()
  if rest:
    raise UserError(f"cannot use {rest[0]!r}; --help lists the flags")
  if values.workdir is None:
    raise UserError("no run; give one: --workdir=runs/digits_simclr")
  return values


def evaluate(
  workdir: pathlib.Path,
  other: str | None,
  against: str | None,
  finetune: bool,
  allow: Collection[str] = (),
) -> dict:
  """All figures of a run, by protocol, row and column; prints them as tables."""
  keep_programs()
  config, run = config_of(workdir), load(workdir, allow=allow)
  mesh = training.make_mesh(jax.devices()[:1])
  try:
    parts = build(config, mesh, allow=allow)
  except UserError as error:
    raise UserError(f"{workdir}/config.json: {error}") from error
  train, test = ({**split, "inputs": inputs_of(parts.method, split)} for split in parts.dataset[:2])
  if finetune and "label" not in train:
    raise UserError(f"fine-tuning needs labels; {config.data} has none")
  target = other and protocols.splits(other, config.validation, image_shape(run, workdir))
  peer = against and of_inputs(run.inputs, against, allow)

  found = {
    "step": run.step,
    "steps": config.steps,
    "judged_on": "validation" if config.validation else "test",
    "data": config.data,
    "seed": config.seed,
  }
  print(
    f"{workdir}: step {run.step} of {config.steps}, the last checkpoint; "
    f"judged on the {found['judged_on']} split, {count_rows(test['inputs']):,} examples"
  )
  fresh = training.init(
    parts.method, parts.optimizer, parts.first_batch(), seed=config.seed, mesh=mesh
  )
  network, _, recipes = parts.method.evaluated
  networks = {
    "untrained": (run.encoder, fresh.params[network], fresh.state[network]),
    "trained": (run.encoder, run.params, run.state),
  }
  encoders = {row: functools.partial(evaluation.embed, *of) for row, of in networks.items()}
  if "label" in train:
    found |= protocols.frozen(encoders, train, test)
    show(found)
  else:
    print(f"{config.data} has no labels: no probes, no retrieval")
  found["geometry"] = protocols.geometry(encoders, recipes, test["inputs"], test.get("label"))
  show({"geometry": found["geometry"]})
  if finetune:
    found["fine_tune"] = protocols.fine_tuned(networks, train, test)
    show({"fine_tune": found["fine_tune"]})
  if target:
    found["transfer"] = {"data": other, **protocols.frozen(encoders, *target)}
    print(f"\ntransfer to {other}:")
    show(found["transfer"])
  if peer:
    ours, theirs = run(test["inputs"]), peer(test["inputs"])
    values = [evaluation.cka(ours, theirs, unbiased=unbiased) for unbiased in (False, True)]
    found["cka"] = {"against": against, "step": peer.step, "cka": values[0], "unbiased": values[1]}
    print(f"\nCKA with {against}, step {peer.step}: {values[0]:.3f}, unbiased {values[1]:.3f}")
  return found


def image_shape(run, workdir) -> tuple[int, ...]:
  """The shape of the images that an encoder takes; raises UserError for one of other inputs."""
  if not (isinstance(run.inputs, jax.ShapeDtypeStruct) and len(run.inputs.shape) == 3):
    raise UserError(f"{workdir} takes no images, so it cannot be transferred to another data set")
  return run.inputs.shape


def of_inputs(inputs, workdir: str, allow: Collection[str] = ()):
  """The encoder of another run, of the same inputs; raises UserError for one of others."""
  peer = load(workdir, allow=allow)
  if peer.inputs != inputs:
    raise UserError(f"{workdir} takes {shown(peer.inputs)}, not this run's {shown(inputs)}")
  return peer


def shown(inputs) -> str:
  """Shapes and types of one example."""
  return ", ".join(
    f"{name} {list(leaf.shape)} {leaf.dtype}".strip() for name, leaf in named_leaves(inputs)
  )


def show(found) -> None:
  for name, title in TITLES.items():
    if name in found:
      print(f"\n{title}\n{table.text(found[name])}")
