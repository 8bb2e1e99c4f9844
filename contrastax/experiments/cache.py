"""The folder in which a command keeps compiled programs for the next one."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import os
import pathlib
import platform
import sys
import tempfile
import warnings

import jax

LARGEST = 2**29
"""Bytes of all programs together; above them the least recently used ones are removed."""


def keep_programs() -> None:
  """Lets JAX keep compiled programs in the user's cache folder, so that a second run starts faster.

  It does nothing where the user has chosen a folder (`JAX_COMPILATION_CACHE_DIR`) or no cache
  (`JAX_ENABLE_COMPILATION_CACHE=false`), where the folder cannot be written, and on several CPU
  devices, where programs that were loaded from a cache can wait for each other forever.

  It is called before the first program is compiled, and starts JAX's devices.
  """
  if jax.config.jax_compilation_cache_dir or not jax.config.jax_enable_compilation_cache:
    return
  if jax.default_backend() == "cpu" and jax.device_count() > 1:
    return
  root = cache_folder() / "contrastax" / "programs"
  folder = root / of_versions()
  try:
    folder.mkdir(parents=True, exist_ok=True)
    tempfile.TemporaryFile(dir=folder).close()
    prune(root, LARGEST)
  except OSError:
    return
  # A program that cannot be read or written is compiled, so the user need not act.
  warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache")
  jax.config.update("jax_compilation_cache_dir", str(folder))
  if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)


def cache_folder() -> pathlib.Path:
  """The user's folder of files that may be removed at any time."""
  stated = os.environ.get("XDG_CACHE_HOME", "")
  if os.path.isabs(stated):  # the standard ignores relative ones
    return pathlib.Path(stated)
  home = pathlib.Path(os.path.expanduser("~"))
  return home / "Library" / "Caches" if sys.platform == "darwin" else home / ".cache"


def of_versions() -> str:
  """The name of the folder of these versions and this processor.

  Compiled code of another processor can have instructions that this one lacks.
  """
  versions = [f"{name}-{_version(name)}" for name in ("jax", "jaxlib", "contrastax")]
  return "_".join([*versions, hashlib.sha256(processor().encode()).hexdigest()[:16]])


def processor() -> str:
  """The processor's model and its instruction sets."""
  named = ("model name", "flags", "CPU implementer", "CPU part", "CPU variant", "Features")
  try:
    first = pathlib.Path("/proc/cpuinfo").read_text().partition("\n\n")[0]
  except OSError:
    return f"{platform.machine()} {platform.processor()}"
  lines = [line for line in first.splitlines() if line.partition(":")[0].strip() in named]
  return "\n".join([platform.machine(), *lines])


def prune(root: pathlib.Path, largest: int) -> None:
  """Removes the least recently used files below `root` until they have at most `largest` bytes."""
  found = []
  for path in root.rglob("*"):
    with contextlib.suppress(OSError):  # another run may have removed it
      if path.is_file():
        of = path.stat()
        found.append((max(of.st_atime, of.st_mtime), of.st_size, path))
  total = sum(size for _, size, _ in found)
  for _, size, path in sorted(found):
    if total <= largest:
      return
    with contextlib.suppress(OSError):
      path.unlink()
      total -= size


def _version(name):
  try:
    return importlib.metadata.version(name)
  except importlib.metadata.PackageNotFoundError:  # a checkout that is not installed
    return "checkout"
