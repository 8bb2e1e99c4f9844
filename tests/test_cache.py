"""Compiled programs are kept for the next command, unless the user or the folder forbids it."""

import importlib.metadata
import json
import os
import pathlib
import subprocess
import sys

import pytest

from contrastax.experiments import cache

PROGRAM = """
import json, pathlib, shutil, sys
from contrastax.experiments.cache import keep_programs
import jax
keep_programs()
folder = jax.config.jax_compilation_cache_dir
exec(sys.argv[1])
value = float(jax.jit(lambda x: jax.numpy.sin(x) * 2)(0.5))
print(json.dumps({"folder": folder, "value": value}))
"""


def keep(home, then="", **environment):
  """What a new process that compiles one program prints; it must print no warning."""
  given = {
    **os.environ,
    "JAX_ENABLE_COMPILATION_CACHE": "true",
    "JAX_PLATFORMS": "cpu",
    "XDG_CACHE_HOME": str(home),
    **environment,
  }
  done = subprocess.run(
    [sys.executable, "-c", PROGRAM, then], env=given, capture_output=True, text=True
  )
  assert (done.returncode, done.stderr) == (0, "")
  return json.loads(done.stdout)


def programs(home):
  return sorted(pathlib.Path(home).glob("contrastax/programs/*/*-cache"))


def test_programs_are_kept_by_default_and_serve_the_next_process(tmp_path):
  first = keep(tmp_path)
  assert pathlib.Path(first["folder"]).parent == tmp_path / "contrastax" / "programs"
  kept = programs(tmp_path)
  assert kept
  assert keep(tmp_path) == first
  assert programs(tmp_path) == kept


@pytest.mark.parametrize(
  "environment",
  [
    {"JAX_ENABLE_COMPILATION_CACHE": "false"},
    {"XLA_FLAGS": "--xla_force_host_platform_device_count=8"},
  ],
  ids=["switched off", "several CPU devices"],
)
def test_nothing_is_kept(tmp_path, environment):
  assert keep(tmp_path, **environment)["folder"] is None
  assert not list(tmp_path.iterdir())


def test_the_users_own_folder_stands(tmp_path):
  own = str(tmp_path / "own")
  found = keep(
    tmp_path / "home",
    JAX_COMPILATION_CACHE_DIR=own,
    JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="0",
  )
  assert found["folder"] == own
  assert list(pathlib.Path(own).iterdir()) and not (tmp_path / "home").exists()


def test_a_folder_that_cannot_be_written_changes_nothing(tmp_path):
  (tmp_path / "file").write_text("")
  expected = keep(tmp_path / "file", JAX_ENABLE_COMPILATION_CACHE="false")
  assert keep(tmp_path / "file") == expected
  replaced = "shutil.rmtree(folder); pathlib.Path(folder).write_text('')"
  assert keep(tmp_path, replaced)["value"] == expected["value"]


def test_damaged_programs_are_compiled_again(tmp_path):
  expected = keep(tmp_path)
  for path in programs(tmp_path):
    path.write_bytes(path.read_bytes()[:40])
  assert keep(tmp_path) == expected


def test_versions_and_processors_do_not_share_programs(monkeypatch):
  names = {cache.of_versions()}
  for package in ("jax", "jaxlib", "contrastax"):
    with monkeypatch.context() as patch:
      version = importlib.metadata.version
      patch.setattr(
        importlib.metadata,
        "version",
        lambda name, of=package, version=version: "9.9" if name == of else version(name),
      )
      names.add(cache.of_versions())
  monkeypatch.setattr(cache, "processor", lambda: "another")
  names.add(cache.of_versions())
  assert len(names) == 5


def test_a_processor_is_known_by_its_model_and_instructions(monkeypatch):
  text = "processor : 0\nmodel name : A\nflags : fma avx2\ncpu MHz : {}\n\nprocessor : 1\n"
  found = []
  for changed in (
    text.format(1000),
    text.format(2000),
    text.replace("avx2", "avx512f"),
    text.replace("A", "B"),
  ):
    monkeypatch.setattr(pathlib.Path, "read_text", lambda self, changed=changed: changed)
    found.append(cache.processor())
  assert found[0] == found[1]
  assert len(set(found)) == 3


def test_the_least_recently_used_programs_are_removed(tmp_path):
  for place, name in enumerate(("b/old", "a/new", "a/newer")):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(bytes(10))
    os.utime(path, (1000 + place, 1000 + place))
  cache.prune(tmp_path, 30)
  assert len(list(tmp_path.glob("*/*"))) == 3
  cache.prune(tmp_path, 20)
  assert {path.name for path in tmp_path.glob("*/*")} == {"new", "newer"}
  cache.prune(tmp_path, 0)
  assert not list(tmp_path.glob("*/*"))


def test_a_relative_cache_home_is_ignored(monkeypatch, tmp_path):
  monkeypatch.setenv("XDG_CACHE_HOME", "relative")
  monkeypatch.setenv("HOME", str(tmp_path))
  assert cache.cache_folder() in (tmp_path / ".cache", tmp_path / "Library" / "Caches")
