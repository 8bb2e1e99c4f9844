"""The command `contrastax export`: a trained encoder for use elsewhere, see `HELP`."""

from __future__ import annotations

import functools
import os
import pathlib
import shutil
import sys
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import numpy as np
from absl import flags

from contrastax import load
from contrastax.core import UserError
from contrastax.experiments import artifacts, commandline
from contrastax.experiments.artifacts import NotWritten, check
from contrastax.experiments.cache import keep_programs
from contrastax.experiments.model_card import model_card
from contrastax.files import new_output, remove, write_text, writing
from contrastax.training import weights
from contrastax.training.load import FrozenEncoder

HELP = """Writes the encoder of a run into a folder, for use elsewhere.

  contrastax export runs/x --out=encoder
  contrastax export runs/clip --out=texts --network=other_encoder --projected

The folder receives

  encoder.json        the architecture and the input
  model.safetensors   the parameters; a ResNet or a ViT has timm's names and PyTorch's layout
  model.stablehlo     the program with its parameters, by jax.export: uint8 images [n, h, w, c] (or what
                      the encoder takes) to float32 embeddings, for any n, on CPU, GPU and TPU
  model.onnx          the same for ONNX, if jax2onnx is installed and can convert the encoder
  README.md           a model card: the data, the config, the evaluation, and how to load each file

`contrastax.load("encoder")` returns the encoder; neither the run nor its data are needed. Each file is
loaded again and compared with the encoder on generated examples. If the embeddings differ by more than
a relative error of 1e-4 (2e-2 if the encoder computes in 16 bits), nothing is written.

  --network=NAME      another encoder of the run, such as other_encoder of CLIP
  --projected         the encoder with the projection after it
  --allow=MODULES     modules of your own that the encoder may use

ONNX needs: pip install 'contrastax[onnx]'

Exit status: 0 finished, also if a file could not be written for this encoder, which is reported;
2 invalid input, explained in one line; 130 interrupted.
"""


class Written(NamedTuple):
  """The result of an export.

  Args:
    folder: the folder.
    errors: {file: its relative error}.
    missing: {file: the reason why it was not written}.
    tolerance: the largest relative error that is allowed.
  """

  folder: pathlib.Path
  errors: dict[str, float]
  missing: dict[str, str]
  tolerance: float


def main(argv: list[str]) -> int:
  """Runs one command line and returns its exit status.

  Args:
    argv: the program's name and the arguments.
  """
  try:
    return commandline.status(functools.partial(_main, argv))
  except KeyboardInterrupt:
    return 130


def _main(argv: list[str]) -> None:
  values = flags.FlagValues()
  flags.DEFINE_string("out", None, "the folder that is written", flag_values=values)
  commandline.define_network(values)
  if not commandline.parse_run(argv, values, HELP, required=("out",)):
    return
  keep_programs()
  written = export(
    values.workdir,
    values.out,
    network=values.network,
    projected=values.projected,
    allow=values.allow,
  )
  for name, error in written.errors.items():
    print(f"{written.folder / name}: loaded again, relative error {error:.1e}")
  for name, reason in written.missing.items():
    print(f"{name} was not written: {reason}", file=sys.stderr)
  print(
    f"all errors are below {written.tolerance:.0e}; see {written.folder / 'README.md'}; "
    f"contrastax.load({str(written.folder)!r}) returns the encoder"
  )


def export(
  run: str | os.PathLike | FrozenEncoder,
  out: str | os.PathLike,
  *,
  network: str | None = None,
  projected: bool = False,
  allow: Collection[str] = (),
) -> Written:
  """Writes a trained encoder into a folder, as the command `contrastax export` does.

  Args:
    run: the folder of a run, or the result of `contrastax.load`.
    out: the folder, which must not exist yet or must be empty.
    network: see `contrastax.load`; only if `run` is a folder.
    projected: see `contrastax.load`; only if `run` is a folder.
    allow: see `contrastax.load`.

  Returns:
    What was written.

  Raises:
    UserError: the run cannot be loaded, the folder is in use, or an artifact gives other embeddings
      than the encoder.

  Example:
    >>> import contrastax
    >>> contrastax.export("nowhere", "encoder")
    Traceback (most recent call last):
      ...
    contrastax.core.UserError: there is no folder nowhere; give the folder of a run
  """
  if isinstance(run, FrozenEncoder) and (network is not None or projected):
    raise UserError(
      "network and projected select from the folder of a run; pass them to contrastax.load"
    )
  folder = pathlib.Path(out).expanduser()
  if not (folder.is_dir() and not any(folder.iterdir())):
    new_output(out)
  workdir = None
  if not isinstance(run, FrozenEncoder):
    workdir = pathlib.Path(run)
    run = load(workdir, network=network, projected=projected, allow=allow)
  unfinished = folder.with_name(f".{folder.name}.tmp")
  try:
    with writing(out):
      remove(unfinished)
      unfinished.mkdir(parents=True)
      written = _write(run, workdir, unfinished, folder, allow)
      if folder.exists():
        folder.rmdir()
      unfinished.rename(folder)
  finally:
    shutil.rmtree(unfinished, ignore_errors=True)
  return written


def _write(
  run: FrozenEncoder,
  workdir: pathlib.Path | None,
  unfinished: pathlib.Path,
  folder: pathlib.Path,
  allow: Collection[str],
) -> Written:
  """Writes all files into a folder that is renamed later."""
  examples, tolerance = artifacts.examples_of(run.inputs), artifacts.tolerance_of(run)
  expected = run(examples)
  if not np.isfinite(expected).all():
    raise UserError(
      "the embeddings of the encoder are not finite; export a run that did not diverge"
    )
  written = Written(folder, {}, {}, tolerance)
  files: dict[str, tuple[Callable[..., None], Callable[[], Callable[[Any], np.ndarray]]]] = {
    weights.FILE: (
      artifacts.write_parameters,
      lambda: artifacts.call_parameters(run, unfinished, allow),
    ),
    artifacts.STABLEHLO: (
      artifacts.write_stablehlo,
      lambda: artifacts.call_stablehlo(unfinished),
    ),
    artifacts.ONNX: (
      artifacts.write_onnx,
      lambda: artifacts.call_onnx(unfinished, run.inputs),
    ),
  }
  for name, (write, read) in files.items():
    try:
      write(run, unfinished)
      written.errors[name] = check(read(), examples, expected, tolerance)
    except NotWritten as reason:
      written.missing[name] = str(reason)
    except UserError as error:
      raise UserError(
        f"{name} was written and loaded again: {error}; nothing is exported"
      ) from None
  write_text(unfinished / "README.md", model_card(run, workdir, written.errors, tolerance))
  return written
