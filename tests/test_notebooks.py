"""The notebooks run from top to bottom, and say what they promise."""

import pathlib
import re

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((pathlib.Path(__file__).parent.parent / "colabs").glob("*.ipynb"))
FEW = 32
"""Training steps: more than any warm-up in the notebooks."""


def shorten(notebook):
  """Replaces the number of training steps by FEW."""
  replaced = 0
  for cell in notebook.cells:
    if cell.cell_type == "code":
      cell.source, count = re.subn(r"\bsteps( ?= ?)\d+", rf"steps\g<1>{FEW}", cell.source)
      replaced += count
  assert replaced, "no number of training steps was found"


@pytest.mark.parametrize("few", [True, pytest.param(False, marks=pytest.mark.full)])
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs(path, few, tmp_path):
  """With few training steps, and, marked full, as it stands."""
  notebook = nbformat.read(path, as_version=4)
  if few:
    shorten(notebook)
  client = NotebookClient(
    notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
  )
  client.execute()
  outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
  assert any("image/png" in output.get("data", {}) for output in outputs), "no figure was drawn"
  assert any("trained" in output.get("text", "") for output in outputs), "no table was printed"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_its_first_code_installs_what_it_needs(path):
  cell = next(cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code")
  assert "%pip install -q git+https://github.com/contrastax/contrastax" in cell.source
  assert 'find_spec("contrastax") is None' in cell.source
