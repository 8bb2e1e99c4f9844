"""The folder in which compiled programs are kept for later commands."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import os
import pathlib
import platform
import tempfile
import warnings
from typing import Any

import jax

from contrastax.experiments.processor import processor_fields
from contrastax.files import cache_folder

MAX_BYTES = 2**29
"""The largest size of all programs together. Beyond it the least recently used ones are removed."""


def keep_programs() -> None:
  """Makes JAX keep compiled programs in the user's cache folder, so that a second run starts faster.

  Call it before the first program is compiled. It initializes the devices of JAX. It has no effect
  if

  - the user has chosen a folder (`JAX_COMPILATION_CACHE_DIR`) or switched the cache off
    (`JAX_ENABLE_COMPILATION_CACHE=false`);
  - the folder cannot be written;
  - there are several CPU devices, because programs that were loaded from a cache can then wait for
    each other forever.
  """
  config: Any = jax.config  # The stubs of JAX do not list its options.
  if config.jax_compilation_cache_dir or not config.jax_enable_compilation_cache:
    return
  if jax.default_backend() == "cpu" and jax.device_count() > 1:
    return
  root = cache_folder() / "contrastax" / "programs"
  folder = root / folder_name()
  try:
    folder.mkdir(parents=True, exist_ok=True)
    tempfile.TemporaryFile(dir=folder).close()
    prune(root, MAX_BYTES)
  except OSError:
    return
  # JAX compiles a program that it cannot read or write, so the user can ignore these warnings.
  warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache")
  jax.config.update("jax_compilation_cache_dir", str(folder))
  if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)


def folder_name() -> str:
  """Returns the name of the folder for the installed versions and this processor.

  The processor is part of the name because code that was compiled for another one can contain
  instructions that this one does not have.
  """
  versions = [f"{name}-{_version(name)}" for name in ("jax", "jaxlib", "contrastax")]
  return "_".join([*versions, hashlib.sha256(processor().encode()).hexdigest()[:16]])


def processor() -> str:
  """Returns the model of the processor and its instruction sets."""
  keys = ("model name", "flags", "CPU implementer", "CPU part", "CPU variant", "Features")
  fields = processor_fields()
  if not fields:
    return f"{platform.machine()} {platform.processor()}"
  return "\n".join([platform.machine(), *(f"{k}: {fields[k]}" for k in keys if k in fields)])


def prune(root: pathlib.Path, max_bytes: int) -> None:
  """Removes the least recently used files in a folder.

  Args:
    root: the folder, whose subfolders are included.
    max_bytes: the largest size of the remaining files together.
  """
  files = []
  for path in root.rglob("*"):
    with contextlib.suppress(OSError):  # Another run may have removed the file.
      if path.is_file():
        status = path.stat()
        files.append((max(status.st_atime, status.st_mtime), status.st_size, path))
  total = sum(size for _, size, _ in files)
  for _, size, path in sorted(files):
    if total <= max_bytes:
      return
    with contextlib.suppress(OSError):
      path.unlink()
      total -= size


def _version(name: str) -> str:
  try:
    return importlib.metadata.version(name)
  except importlib.metadata.PackageNotFoundError:  # The package is a checkout.
    return "checkout"
