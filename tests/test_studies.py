"""The runner of the studies, and the pages that are drawn from the committed records."""

import importlib
import json
import pathlib

import numpy as np
import pytest

from contrastax.core import UserError
from studies import example_configs, real_data
from studies.__main__ import NAMES, main
from studies.common.records import Records, append, read
from studies.common.report import Verdict, estimate, extremes, left_out, paired, table, unpaired
from studies.common.study import RESULTS, Study, grid


def study(folder, **parts):
  """Two arms and three seeds, each measured as a number; `done` lists what was measured."""
  done = []

  def measure(job):
    done.append(job)
    return {"accuracy": {"a": 0.5, "b": 0.6}[job["arm"]] + job["seed"] / 100}

  def report(records):
    lead = paired(*(records.values("accuracy", arm=arm) for arm in "ba"))
    yield "Two arms."
    yield Verdict("better", f"b − a is {lead:+.3f}", lead.above(2))

  given = {"stages": [lambda _: grid(arm="ab", seed=range(3))], "measure": measure}
  return Study("toy", "A toy", folder=folder, report=report, **given | parts), done


def test_each_job_is_measured_once(tmp_path):
  toy, done = study(tmp_path)
  toy.run()
  assert done == [{"arm": arm, "seed": seed} for arm in "ab" for seed in range(3)]
  toy.run()
  assert len(done) == 6
  assert toy.records().values("accuracy", arm="b").tolist() == [0.6, 0.61, 0.62]


@pytest.mark.parametrize("left", [1, 20, -1])
def test_a_run_that_was_killed_within_a_line_resumes(tmp_path, left):
  """Only the job of the incomplete line is measured again; all other lines stay as they are."""
  toy, done = study(tmp_path)
  toy.run()
  lines = toy.path.read_bytes().splitlines(keepends=True)
  toy.path.write_bytes(b"".join(lines[:5]) + lines[5][:left])
  assert len(toy.records()) == 4
  done.clear()
  toy.run()
  assert done == [{"arm": "b", "seed": 1}, {"arm": "b", "seed": 2}]
  resumed = toy.path.read_bytes().splitlines(keepends=True)
  assert resumed[:5] == lines[:5]
  assert all(json.loads(line) for line in resumed)
  assert toy.records().values("accuracy", arm="b").tolist() == [0.6, 0.61, 0.62]


def test_a_run_that_failed_keeps_what_it_measured(tmp_path):
  def measure(job):
    if job["seed"] == 2:
      raise RuntimeError("out of memory")
    return {"accuracy": 0.5}

  toy, _ = study(tmp_path, measure=measure)
  with pytest.raises(RuntimeError):
    toy.run()
  assert len(toy.records().where(arm="a")) == 2


def test_a_stage_sees_the_records_of_the_stages_before_it(tmp_path):
  def best(records):
    arm = max(records.where(seed=0), key=lambda r: r["accuracy"])["arm"]
    return grid(arm=[arm], seed=(1, 2))

  toy, done = study(tmp_path, stages=[lambda _: grid(arm="ab", seed=[0]), best])
  toy.run()
  assert [job["arm"] for job in done] == ["a", "b", "b", "b"]


def test_a_damaged_line_is_named(tmp_path):
  toy, _ = study(tmp_path)
  toy.run()
  toy.path.write_text("{nothing\n" + toy.path.read_text())
  with pytest.raises(UserError, match=r"toy\.jsonl: line 1 is not a record; remove that line$"):
    toy.run()


@pytest.mark.parametrize("before, now", [(1, 2), (2, 1)])
def test_records_of_another_version_of_the_arms_are_refused(tmp_path, before, now):
  toy, _ = study(tmp_path, version=before)
  toy.run()
  toy, done = study(tmp_path, version=now)
  for refused in (toy.run, toy.page):
    with pytest.raises(UserError, match=f"version {before} of the arms.*is version {now}") as error:
      refused()
    assert "\n" not in str(error.value)
  assert not done


def test_records_state_their_circumstances(tmp_path):
  toy, _ = study(tmp_path)
  toy.run()
  (start,) = read(toy.path).starts
  assert start["command"] == "python -m studies toy run"
  assert start["version"] == 1
  assert {"machine", "versions", "commit", "time", "devices"} <= start.keys()


def test_a_page_needs_all_runs(tmp_path):
  toy, _ = study(tmp_path)
  toy.run()
  toy.path.write_bytes(b"".join(toy.path.read_bytes().splitlines(keepends=True)[:-2]))
  with pytest.raises(UserError, match=r"2 runs are missing.*'arm': 'b', 'seed': 1"):
    toy.page()


@pytest.mark.parametrize(
  "b, outcome", [(0.6, "**Holds**"), (0.5, "**Does not hold**"), (0.4, "**Does not hold**")]
)
def test_a_page_tells_whether_the_hypothesis_holds(tmp_path, b, outcome):
  """A planted result, of which the verdict is known."""
  noise = (0.001, -0.001, 0.0)

  def measure(job):
    return {"accuracy": b + noise[job["seed"]] if job["arm"] == "b" else 0.5}

  toy, _ = study(tmp_path, measure=measure)
  toy.run()
  toy.draw()
  page = toy.path.with_suffix(".md").read_text()
  assert page == toy.page()
  (line,) = [line for line in page.splitlines() if line.startswith("- better: ")]
  assert line.endswith(f"{outcome}.")


def test_a_verdict_whose_condition_fails_is_not_tested():
  for holds in (True, False):
    verdict = Verdict("peak", "the best is 0.2", holds, False, "the arms differ")
    assert verdict.outcome == "not tested"
    assert str(verdict).endswith(
      "**Not tested** (the condition is not fulfilled: the arms differ)."
    )


def test_estimates_are_means_and_standard_errors():
  rng = np.random.default_rng(0)
  a, b = rng.normal(size=(2, 7, 3))
  for found, expected in (
    (estimate(a), a),
    (paired(a, b), a - b),
  ):
    np.testing.assert_allclose(found.mean, expected.sum(0) / 7)
    np.testing.assert_allclose(
      found.error, np.sqrt(((expected - expected.mean(0)) ** 2).sum(0) / 6 / 7)
    )
  one, other = a[:, 0], b[:5, 0]
  apart = unpaired(one, other)
  np.testing.assert_allclose(apart.mean, one.mean() - other.mean())
  np.testing.assert_allclose(apart.error**2, one.var(ddof=1) / 7 + other.var(ddof=1) / 5)


def test_estimates_are_written_with_their_errors():
  assert f"{estimate([1.0, 2.0, 3.0]):.2f}" == "2.00 ± 0.58"
  assert f"{estimate([1.0, 2.0, 3.0]):+.2f}" == "+2.00 ± 0.58"
  assert f"{estimate([0.25]):.3f}" == "0.250"
  assert estimate([1.0, 2.0, 3.0]).above(3)
  assert not estimate([1.0, 2.0, 3.0]).above(4)
  assert not estimate([1.0]).above(0)


def test_values_are_ordered_by_seed():
  records = Records({"arm": "a", "seed": seed, "x": seed * 2, "tau": None} for seed in (2, 0, 1))
  assert records.values("x", arm="a", tau=None).tolist() == [0, 2, 4]
  assert records.values(lambda r: [r["x"], 1]).tolist() == [[0, 1], [2, 1], [4, 1]]
  assert not records.where(arm="b")


def test_extremes_tables_and_runs_left_out():
  assert extremes({"a": [1, 1], "b": [0, 3], "c": [1, 0]}) == ("b", "c")
  assert table(["x", "y"], [[1, "two"]]) == "| x | y |\n| --- | --- |\n| 1 | two |"
  sound = {"arm": "a", "seed": 0, "finite": True, "rank": 3.0}
  assert left_out([sound], "arm", "seed") == "Runs that do not count: none."
  for unsound in ({"finite": False}, {"rank": 2.9}):
    assert left_out([sound, sound | unsound | {"seed": 1}], "arm", "seed") == (
      "Runs that do not count: arm a; seed 1."
    )


def test_a_file_of_one_record_is_replaced(tmp_path):
  path = tmp_path / "found" / "one.json"
  for record in ({"x": 1}, {"x": [2]}):
    append(path, record)
    assert read(path) == (record,)


@pytest.mark.parametrize("name", NAMES)
def test_the_page_is_drawn_from_the_committed_records(name):
  """All jobs have records, and the page has their numbers."""
  module = importlib.import_module(f"studies.{name}")
  assert module.STUDY.name == name
  assert (RESULTS / f"{name}.md").read_text(encoding="utf-8") == module.STUDY.page()
  assert "Hypothes" in module.__doc__


@pytest.mark.parametrize("name", [name for name in NAMES if (RESULTS / f"{name}.png").exists()])
def test_the_figure_is_drawn_from_the_committed_records(name):
  from matplotlib.figure import Figure

  module, canvas = importlib.import_module(f"studies.{name}").STUDY, Figure()
  module.figure(module.records(), canvas)
  assert all(axes.has_data() for axes in canvas.axes)


def test_every_study_has_a_line_in_the_list():
  text = (RESULTS.parent / "README.md").read_text(encoding="utf-8")
  for name in NAMES:
    assert f"`{name}`" in text and f"results/{name}.md" in text


def test_the_list_of_configs_has_the_recorded_results():
  path = pathlib.Path(example_configs.CONFIGS, "results.json")
  recorded = example_configs.results(read(example_configs.STUDY.path))
  assert json.loads(path.read_text()) == recorded | real_data.entries()
  assert set(example_configs.NAMES) < set(json.loads(path.read_text()))


@pytest.mark.parametrize("argv", [[], ["mochi"], ["mochi", "draws"], ["no_such", "run"]])
def test_a_wrong_command_names_the_studies(argv):
  with pytest.raises(SystemExit, match=r"python -m studies NAME run\|draw.* mochi") as error:
    main(argv)
  assert "\n" not in str(error.value)
