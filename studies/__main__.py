"""Runs a study, or draws its page: `python -m studies NAME run|draw`."""

from __future__ import annotations

import importlib
import pathlib
import sys

from contrastax.core import UserError

NAMES = sorted(p.stem for p in pathlib.Path(__file__).parent.glob("*.py") if p.stem[0] != "_")


def main(argv: list[str]) -> None:
  """Executes one command, given as [NAME, "run" or "draw"]."""
  if len(argv) != 2 or argv[0] not in NAMES or argv[1] not in ("run", "draw"):
    sys.exit(f"usage: python -m studies NAME run|draw, where NAME is one of {', '.join(NAMES)}")
  study = importlib.import_module(f"studies.{argv[0]}").STUDY
  try:
    study.run() if argv[1] == "run" else study.draw()
  except UserError as error:
    sys.exit(f"error: {error}")


if __name__ == "__main__":
  main(sys.argv[1:])
