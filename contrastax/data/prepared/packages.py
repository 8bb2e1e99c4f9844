"""Debian packages and other downloads by the programs of package registries."""

from __future__ import annotations

import functools
import hashlib
import pathlib
import shutil
import subprocess
from collections.abc import Callable

from contrastax.core import UserError

AS_USER = ("-o", "APT::Sandbox::User=root")
"""Options of apt-get for a download into a folder that only this user can read."""


def debian(*names: str) -> Callable[[pathlib.Path], dict[str, str]]:
  """Returns a function that downloads Debian packages and unpacks them into a folder.

  The function returns {package: version}. The packages are those of the user's Debian release, and
  apt-get verifies them with the signed index of the release.

  Args:
    names: the names of the packages.
  """
  return functools.partial(_unpack, names)


def _unpack(names: tuple[str, ...], folder: pathlib.Path) -> dict[str, str]:
  run("apt-get", "update", "-qq", folder=folder, may_fail=True)
  run("apt-get", *AS_USER, "download", "-qq", *names, folder=folder)
  versions = {}
  for path in sorted(folder.glob("*.deb")):
    name, version = run("dpkg-deb", "-W", path.name, folder=folder).split()
    versions[name] = version
    run("dpkg-deb", "-x", path.name, ".", folder=folder)
    path.unlink()
  return versions


def run(*command: str, folder: pathlib.Path, may_fail: bool = False) -> str:
  """Runs a program in a folder and returns what it prints.

  Args:
    command: the program and its arguments.
    folder: the current folder of the program.
    may_fail: whether a failure is ignored.

  Raises:
    UserError: the program is not installed, or it fails.
  """
  if not shutil.which(command[0]):
    raise UserError(f"{command[0]}, which downloads the data, is not on the PATH; install it")
  result = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace")
  if result.returncode and not may_fail:
    last_line = (result.stderr or result.stdout).strip().splitlines()[-1:]
    fault = last_line[0] if last_line else f"exit {result.returncode}"
    raise UserError(f"{' '.join(command)} failed: {fault}")
  return result.stdout


def verified(path: pathlib.Path, sha256: str) -> pathlib.Path:
  """Returns the path; raises UserError if the file has another SHA-256."""
  actual = hashlib.sha256(path.read_bytes()).hexdigest()
  if actual != sha256:
    raise UserError(
      f"{path.name} has SHA-256 {actual}, not {sha256}; the file in the registry has changed"
    )
  return path
