"""The examples in docstrings run, and every entry point has one."""

import doctest
import importlib
import inspect
import pkgutil

import pytest

import contrastax

MODULES = sorted(
  m.name
  for m in pkgutil.walk_packages(contrastax.__path__, "contrastax.")
  if m.name not in ("contrastax.__main__",) and not m.name.startswith("contrastax.configs")
)
ENTRY_POINTS = (
  "criteria", "encoders", "evaluation", "losses", "methods", "negatives", "pairwise", "relations",
  "schedules", "temperatures", "terms", "views",
)  # fmt: skip
OPTIONS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


@pytest.mark.parametrize("name", ["contrastax", *MODULES])
def test_examples_run(name):
  assert doctest.testmod(importlib.import_module(name), optionflags=OPTIONS).failed == 0


@pytest.mark.parametrize("package", ENTRY_POINTS)
def test_every_entry_point_has_an_example(package):
  module = importlib.import_module(f"contrastax.{package}")
  without = [
    name
    for name, value in vars(module).items()
    if not name.startswith("_")
    and (inspect.isclass(value) or inspect.isfunction(value))
    and value.__module__.startswith(f"contrastax.{package}")
    and ">>>" not in (value.__doc__ or "")
  ]
  assert not without


def test_a_wrong_example_is_found():
  def wrong():
    """Adds.

    Example:
      >>> 1 + 1
      3
    """

  runner = doctest.DocTestRunner(verbose=False)
  (example,) = doctest.DocTestFinder().find(wrong, "wrong")
  assert runner.run(example, out=lambda text: None).failed == 1
