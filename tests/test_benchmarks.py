"""What the benchmarks share: timing in turn, worker processes, summaries; and their pages."""

import numpy as np
import pytest

from benchmarks import losses, plumbing, throughput, views
from benchmarks.common import Worker, in_a_process, in_turn, quartiles, ratios, versions
from contrastax.core import UserError
from studies.common.records import read

ECHO = """
import sys
for line in sys.stdin:
  if "end" in line:
    sys.exit("no memory")
  print([1, line.strip()].__repr__().replace("'", '"'), flush=True)
"""


def test_all_arms_are_timed_in_each_round():
  calls = []
  arms = {name: lambda number, name=name: calls.append((name, number)) for name in "ab"}
  seconds = in_turn(arms, 3, skip=1)
  assert calls == [(name, number) for number in range(4) for name in "ab"]
  assert {name: len(found) for name, found in seconds.items()} == {"a": 3, "b": 3}


def test_ratios_are_summarized_by_median_and_quartiles():
  each = ratios([2.0, 6.0, 12.0], [1.0, 2.0, 3.0])
  assert each == [2.0, 3.0, 4.0]
  assert quartiles(each, ".1f") == "3.0 (2.0 to 4.0)"


def test_a_worker_answers_each_line_until_it_ends():
  worker = Worker(["-c", ECHO])
  assert worker.ask("first") == [1, "first"]
  assert worker.ask("second") == [1, "second"]
  with pytest.raises(UserError, match="^no memory$"):
    worker.ask("end")
  worker.end()


def test_a_process_that_fails_tells_why():
  assert "no_such_module" in in_a_process("no_such_module")["stopped"]


def test_versions_are_those_of_installed_packages():
  assert versions("numpy", "no-such-package") == {"numpy": np.__version__}


@pytest.mark.parametrize("benchmark", [losses, plumbing, throughput, views])
def test_the_page_is_drawn_from_the_committed_records(benchmark):
  page = benchmark.page(read(benchmark.RESULTS))
  assert benchmark.RESULTS.with_suffix(".md").read_text(encoding="utf-8") == page
