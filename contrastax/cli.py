"""The command `contrastax`: trains, evaluates, and lists the example configs."""

from __future__ import annotations

import importlib
import os
import sys

import contrastax

COMMANDS = {
  "run": ("contrastax.experiments.run", "train, evaluate and resume one experiment"),
  "evaluate": ("contrastax.experiments.evaluate", "evaluate a finished run in full"),
  "configs": ("contrastax.experiments.configs", "list the example configs"),
  "prepare": ("contrastax.data.prepare", "download and convert data sets"),
}
"""Module with `main(argv)`, and a description, of each command."""


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
    ]
  )


def main(argv: list[str] | None = None) -> int:
  """Runs one command and returns its exit status.

  Args:
    argv: the arguments after the program's name; None: those of the process.
  """
  name, *rest = (sys.argv[1:] if argv is None else argv) or ["--help"]
  if name in ("--help", "-h", "help"):
    print(_help())
    return 0
  if name == "--version":
    print(f"contrastax {contrastax.__version__}")
    return 0
  if name not in COMMANDS:
    print(f"error: no command {name!r}; commands: {', '.join(COMMANDS)}", file=sys.stderr)
    return 2
  module = importlib.import_module(COMMANDS[name][0])
  try:
    status = module.main([f"contrastax {name}", *rest])
    sys.stdout.flush()
    return status
  except BrokenPipeError:  # the reader, such as `head`, has closed the pipe
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 128 + 13  # as a shell reports SIGPIPE


if __name__ == "__main__":
  sys.exit(main())
