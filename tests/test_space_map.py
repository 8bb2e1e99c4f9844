"""The map of a run: degenerate spaces are drawn, not fatal. t-SNE can crash the whole process."""

import subprocess
import sys

import matplotlib.image
import numpy as np
import pytest

from contrastax import reporting
from contrastax.core import UserError

RNG = np.random.default_rng(0)
SPACES = {
  "all zero": "np.zeros((50, 8), np.float32)",
  "all equal": "np.full((50, 8), 0.3, np.float32)",
  "one direction": "np.outer(np.arange(1, 51), np.ones(8)).astype(np.float32)",
  "equal up to rounding": "(1 + 1e-7 * x).astype(np.float32)",
  "nearly equal": "(1 + 1e-4 * x).astype(np.float32)",
  "two points": "x[np.arange(50) % 2]",
  "three points": "x[np.arange(50) % 3]",
  "one outlier": "np.where(np.arange(50)[:, None] == 0, x, 1.0)",
  "a NaN": "np.where(np.arange(50)[:, None] == 0, np.nan, x)",
  "infinite": "np.where(np.arange(50)[:, None] == 0, np.inf, x)",
  "large": "(1e30 * x).astype(np.float32)",
  "one dimension": "x[:, :1]",
  "integers": "(4 * x).astype(np.int8)",
  "half precision": "x.astype(np.float16)",
  **{f"{n} examples": f"x[:{n}]" for n in range(5)},
}
CODE = """
import sys, warnings
import numpy as np
from contrastax import reporting
warnings.simplefilter("error", RuntimeWarning)
x = np.random.default_rng(0).normal(size=(50, 8))
for title, space in {spaces!r}.items():
  print(title, flush=True)
  space = eval(space)
  labels = np.arange(len(space)) % 3 - 1
  reporting.space_map({{title: space, "again": space}}, labels, ("a", "b"), sys.argv[1])
print("done")
"""


def test_no_space_ends_the_process(tmp_path):
  command = [sys.executable, "-c", CODE.format(spaces=SPACES), str(tmp_path / "map.png")]
  run = subprocess.run(command, capture_output=True, text=True)
  assert run.stdout.splitlines()[-1:] == ["done"], (run.returncode, run.stdout, run.stderr)


def titles(monkeypatch, tmp_path, *arguments):
  """What the figure's panels are called, and where its points lie."""
  seen = []
  monkeypatch.setattr(
    "matplotlib.figure.Figure.savefig", lambda self, path, **_: seen.extend(self.axes)
  )
  reporting.space_map(*arguments, tmp_path / "map.png")
  points = [np.concatenate([part.get_offsets() for part in axes.collections]) for axes in seen]
  return [axes.get_title() for axes in seen], points


def test_the_title_says_what_is_degenerate(monkeypatch, tmp_path):
  x = RNG.normal(size=(20, 4))
  spaces = {"raw": x, "trained": np.ones_like(x), "diverged": x * np.nan}
  names, points = titles(monkeypatch, tmp_path, spaces, np.arange(20) % 2, ("a", "b"))
  assert names == ["raw", "trained (collapsed)", "diverged (not finite)"]
  assert len(np.unique(points[0], axis=0)) == 20
  np.testing.assert_array_equal(np.asarray(points[1]), np.zeros((20, 2)))


def test_every_example_is_drawn_also_without_a_class(monkeypatch, tmp_path):
  x = RNG.normal(size=(9, 4))
  _, (points,) = titles(monkeypatch, tmp_path, {"x": x}, np.arange(9) - 3, ("a", "b"))
  assert len(points) == 9


def test_the_map_is_a_picture(tmp_path):
  x = RNG.normal(size=(20, 4))
  reporting.space_map({"x": x}, np.arange(20) % 2, ("a", "b"), tmp_path / "map.png")
  assert matplotlib.image.imread(tmp_path / "map.png").std() > 0


@pytest.mark.parametrize("name", ["$\\frac$", "_x", "x" * 3000])
def test_the_legend_shows_any_name_of_a_class(monkeypatch, tmp_path, name):
  figures = []
  monkeypatch.setattr(
    matplotlib.figure.Figure, "savefig", lambda figure, *_, **__: figures.append(figure)
  )
  reporting.space_map({"x": RNG.normal(size=(4, 3))}, np.arange(4) % 2, (name, "b"), tmp_path / "x")
  figures[0].canvas.draw()
  (legend,) = figures[0].legends
  shown = [text.get_text() for text in legend.get_texts()]
  assert len(shown[0]) <= 41 and name.startswith(shown[0].rstrip("…")) and shown[1] == "b"


@pytest.mark.parametrize("labels", [np.zeros((20, 1), int), np.zeros(5, int)])
def test_labels_that_do_not_fit_are_refused(labels, tmp_path):
  with pytest.raises(UserError, match=r"features must be \[n, d\] and labels \[n\]"):
    reporting.space_map({"x": np.ones((20, 4))}, labels, ("a",), tmp_path / "map.png")
