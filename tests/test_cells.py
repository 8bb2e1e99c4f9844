"""Method, negatives, temperature and loss combine freely: every cell learns, on any number of devices."""

import itertools
import os
import pathlib
import subprocess
import sys

import cells
import processes
import pytest

ROOT = pathlib.Path(__file__).parent.parent

MEASURE = pathlib.Path(__file__).with_name("cells.py")


def check(which, part, of):
  for cell, found in processes.measured(MEASURE, which, part, of).items():
    assert found["apart"] < 1e-10, (cell, found)
    assert found["lead"] > 3 * found["error"], (cell, found)
    assert found["rank"][1] > found["rank"][0] / 2, (cell, found)


def test_a_cell_of_every_pair():
  check("cover", 0, 1)


@pytest.mark.full
@pytest.mark.parametrize("part", range(24))
def test_every_cell(part):
  check("cube", part, 24)


def test_the_cover_has_every_two_values_together():
  axes = [cells.METHODS, cells.NEGATIVES, cells.TEMPERATURES, cells.LOSSES]
  wanted = {
    pair
    for a, b in itertools.combinations(range(4), 2)
    for pair in itertools.product([(a, x) for x in axes[a]], [(b, y) for y in axes[b]])
  }
  assert set().union(*map(cells.pairs, cells.cover())) == wanted
  assert len(cells.cover()) < len(cells.CUBE) / 6


@pytest.mark.full
def test_the_page_of_combinations_is_what_the_library_takes():
  done = subprocess.run(
    [sys.executable, "-c", "from benchmarks import combinations; print(combinations.page(), end='')"],
    env={**os.environ, "PYTHONPATH": str(ROOT)},
    capture_output=True, text=True, check=True,
  )  # fmt: skip
  assert done.stdout == (ROOT / "docs" / "combinations.md").read_text(encoding="utf-8")
