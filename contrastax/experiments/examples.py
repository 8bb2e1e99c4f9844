"""The files of the example configs."""

from __future__ import annotations

import difflib
import importlib.util
import pathlib

from contrastax.core import UserError


def folder() -> pathlib.Path:
  """The folder of the example configs: of the installed package, or of the checkout."""
  spec = importlib.util.find_spec("contrastax.configs")
  if spec is not None and spec.submodule_search_locations:
    return pathlib.Path(list(spec.submodule_search_locations)[0])
  return pathlib.Path(__file__).parents[2] / "configs"


def names() -> list[str]:
  """The names of the example configs, in alphabetical order."""
  return sorted(p.stem for p in folder().glob("*.py") if p.stem != "__init__")


def path_of(name: str) -> pathlib.Path:
  """The file of an example config.

  Raises:
    UserError: there is no example config of this name.
  """
  if name not in names():
    close = difflib.get_close_matches(name, names(), 1)
    hint = f"did you mean {close[0]}?" if close else "`contrastax configs` lists them"
    raise UserError(f"no example config {name!r}; {hint}")
  return folder() / f"{name}.py"
