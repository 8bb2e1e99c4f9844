"""Fixtures of all tests, and how their programs are compiled."""

import os

# Most of the time goes into compiling small programs that then run for milliseconds.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")
# No test depends on programs that an earlier command has kept in the user's folder.
os.environ.setdefault("JAX_ENABLE_COMPILATION_CACHE", "false")

import jax  # noqa: E402
import pytest  # noqa: E402


@pytest.fixture(scope="module", autouse=True)
def programs_end_with_their_file():
  """Each compiled program holds memory maps; thousands of them reach the system's limit per process
  (65,530 on Linux), where the compiler crashes."""
  yield
  jax.clear_caches()


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

    test_golden.summarise(terminalreporter)
