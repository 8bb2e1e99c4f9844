"""Fixtures of all tests, and how their programs are compiled."""

import gc
import os
import pathlib
import tempfile

import jax
import processes
import pytest

MOST_MAPS = 30_000
MAPS = pathlib.Path("/proc/self/maps")


def pytest_configure(config):
  """Compiles quickly in the default run, and as users do in `-m full`.

  Most of the time goes into the compilation of small programs that run for milliseconds, so the
  default run leaves out the optimizations of XLA. The tolerances are the same in both runs: they
  hold for optimized programs and for programs that are not.
  """
  if config.getoption("markexpr") == "not full":
    os.environ.setdefault("XLA_FLAGS", processes.flags(processes.QUICK))
    # Nothing here reads the source lines in a compiled program; they take time in each lowering.
    os.environ["JAX_TRACEBACK_IN_LOCATIONS_LIMIT"] = "0"
    jax.config.update("jax_traceback_in_locations_limit", 0)
    keep_programs(config)
  else:
    jax.config.update("jax_enable_compilation_cache", False)
  # No test depends on programs that an earlier command has kept in the user's folder.
  os.environ.setdefault("JAX_ENABLE_COMPILATION_CACHE", "false")
  processes.collect_garbage_rarely()
  # Threads of NumPy and scikit-learn mostly wait for each other where other workers use the cores.
  # The variable reaches libraries that are loaded later, and the workers of pytest-xdist.
  os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def keep_programs(config):
  """Keeps the programs of this process until it ends: many tests compile what others compiled too.

  The processes that the tests start do not use them: on several devices they could wait forever.
  """
  folder = tempfile.TemporaryDirectory(prefix="contrastax_programs_")
  config.add_cleanup(folder.cleanup)
  jax.config.update("jax_enable_compilation_cache", True)
  jax.config.update("jax_compilation_cache_dir", folder.name)
  # To keep a smaller program takes as long as to compile it.
  jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.01)


@pytest.fixture(scope="module", autouse=True)
def programs_end_before_there_are_too_many():
  """Each compiled program holds memory maps; thousands of them reach the system's limit per process
  (65,530 on Linux), where the compiler crashes. Until then the next files use the programs again."""
  yield
  if not MAPS.exists() or MAPS.read_bytes().count(b"\n") > MOST_MAPS:
    jax.clear_caches()
    gc.collect()


@pytest.fixture
def float64():
  """float64 within one test; everything else runs in JAX's default, float32."""
  with jax.enable_x64(True):
    yield


def pytest_terminal_summary(terminalreporter):
  """How many values of public implementations were compared, agree, and are left out, by loss."""
  ran = [*terminalreporter.stats.get("passed", ()), *terminalreporter.stats.get("failed", ())]
  if any("test_golden.py" in report.nodeid for report in ran):
    import test_golden

    test_golden.summarize(terminalreporter)
