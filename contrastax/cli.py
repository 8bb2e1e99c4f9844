"""The command `contrastax`: trains, evaluates and compares runs, lists configs, prepares data."""

from __future__ import annotations

import importlib
import os
import sys

import contrastax

COMMANDS = {
  "run": ("contrastax.experiments.run", "train, evaluate and resume one experiment"),
  "evaluate": ("contrastax.experiments.evaluate", "compute all measurements of a run"),
  "embed": ("contrastax.experiments.embed", "write the embeddings of a data set to a file"),
  "search": ("contrastax.experiments.search", "find the examples that are nearest to a query"),
  "export": ("contrastax.experiments.export", "write an encoder for use elsewhere"),
  "compare": ("contrastax.experiments.compare", "compare runs on the same data"),
  "configs": ("contrastax.experiments.configs", "list the example configs"),
  "prepare": ("contrastax.data.prepare", "download and convert data sets"),
}
"""{command: (module with a function `main(argv)`, description)}."""


def _help() -> str:
  width = max(map(len, COMMANDS))
  lines = [f"  contrastax {name:<{width}}  {text}" for name, (_, text) in COMMANDS.items()]
  return "\n".join(
    [
      "Contrastive representation learning in JAX.",
      "",
      *lines,
      "",
      "contrastax COMMAND --help describes a command; contrastax --version prints the version.",
      "In a checkout, python -m experiments.run and python -m experiments.evaluate are the same",
      "programs as contrastax run and contrastax evaluate.",
    ]
  )


def main(argv: list[str] | None = None) -> int:
  """Runs one command and returns its exit status.

  Args:
    argv: the arguments after the program's name. None means the arguments of the process.
  """
  name, *rest = (sys.argv[1:] if argv is None else argv) or ["--help"]
  if name in ("--help", "-h", "help"):
    print(_help())
    return 0
  if name == "--version":
    print(f"contrastax {contrastax.__version__}")
    return 0
  if name not in COMMANDS:
    print(
      f"error: there is no command {name!r}; the commands are {', '.join(COMMANDS)}",
      file=sys.stderr,
    )
    return 2
  # The empty string is the current folder. `python -m` also searches it, for modules of a config.
  if not sys.flags.safe_path and "" not in sys.path:
    sys.path.insert(0, "")
  module = importlib.import_module(COMMANDS[name][0])
  try:
    status = module.main([f"contrastax {name}", *rest])
    sys.stdout.flush()
    return status
  except BrokenPipeError:  # The reader of the output, such as `head`, has ended.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 128 + 13  # This is the status that a shell reports for SIGPIPE.


if __name__ == "__main__":
  sys.exit(main())
