"""Converts any data set to ArrayRecord files: `contrastax prepare SOURCE --out=FOLDER`."""

from __future__ import annotations

import ast
import pathlib
import time
from collections.abc import Sequence
from typing import Any

from contrastax.core import UserError
from contrastax.data.datasets import load
from contrastax.data.shards import write_shards


def convert(name: str, out: str, **options: Any) -> None:
  """Decodes a data set once and writes it to ArrayRecord files.

  Afterwards `arrayrecord:OUT` has the same examples, classes and test examples.

  Args:
    name: the name of the data set; see `data.load`.
    out: the folder that is written.
    **options: the options of the data set, such as `size`.

  Raises:
    UserError: the data set cannot be read, or the folder is not empty.
  """
  begun = time.perf_counter()
  dataset = load(name, **options)
  write_shards(dataset, out, source=name, options=options)
  counts = " and ".join(
    f"{len(next(iter(part.values()))):,} {kind}"
    for part, kind in ((dataset.train, "training"), (dataset.test, "test"))
    if part
  )
  size = sum(file.stat().st_size for file in pathlib.Path(out).iterdir())
  print(
    f"{out}: {counts} examples, {size / 2**20:.1f} MiB, in {time.perf_counter() - begun:.0f} s; "
    f"use it by --config.data=arrayrecord:{out}"
  )


def convert_command(arguments: Sequence[str]) -> None:
  """Runs `convert` with the arguments of a command line, `SOURCE --out=FOLDER --OPTION=VALUE …`.

  Raises:
    UserError: the arguments are invalid; see also `convert`.
  """
  names = [argument for argument in arguments if not argument.startswith("--")]
  options: dict[str, Any] = {}
  for argument in arguments:
    key, equals, text = argument.removeprefix("--").partition("=")
    if argument.startswith("--"):
      if not equals:
        raise UserError(f"{argument} needs a value: {argument}=…")
      options[key] = _value(text)
  out = str(options.pop("out", ""))
  if len(names) != 1 or not out:
    raise UserError("give one data set and a folder, such as folder:photos --out=photos_64")
  convert(names[0], out, **options)


def _value(text: str) -> Any:
  try:
    return ast.literal_eval(text)
  except (ValueError, SyntaxError):
    return text
