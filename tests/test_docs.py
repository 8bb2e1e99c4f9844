"""The documents name only what there is."""

import collections
import importlib
import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
from images_on_disk import content, picture, write

from contrastax import methods

ROOT = pathlib.Path(__file__).parent.parent
CATALOG = (ROOT / "docs" / "catalog.md").read_text(encoding="utf-8")
DOCUMENTS = sorted(
  [
    ROOT / "README.md",
    *ROOT.glob("docs/**/*.md"),
    *ROOT.glob("benchmarks/*.md"),
    *ROOT.glob("studies/*.md"),
  ]
)


def find(name):
  """The object of a dotted name: the longest prefix that is a module, then attributes."""
  parts = name.split(".")
  for cut in range(len(parts), 0, -1):
    try:
      found = importlib.import_module(".".join(parts[:cut]))
    except ModuleNotFoundError:
      continue
    for attribute in parts[cut:]:
      found = getattr(found, attribute)
    return found
  raise ModuleNotFoundError(name)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_names_import_and_paths_exist(document):
  text = re.sub(r"```.*?```", "", document.read_text(encoding="utf-8"), flags=re.DOTALL)
  for name in re.findall(r"`(contrastax(?:\.\w+)+)`", text):
    find(name)
  for path in re.findall(
    r"`((?:configs|tests|docs|benchmarks|studies|colabs|experiments)/[\w./-]+)`", text
  ):
    assert (ROOT / path).exists(), path


def anchors(page):
  """The anchors of a page's headings, as they are linked to."""
  text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
  headings = re.findall(r"^#+ (.*)$", text, re.M)
  return {re.sub(r"[^\w\- ]", "", each.strip().lower()).replace(" ", "-") for each in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document):
  text = re.sub(r"```.*?```", "", document.read_text(encoding="utf-8"), flags=re.DOTALL)
  for target in re.findall(r"\]\((?!http)([^)]+)\)", text):
    file, _, anchor = target.partition("#")
    page = document.parent / file if file else document
    assert page.exists(), target
    assert not anchor or anchor in anchors(page), target


def run_the_code_of(page):
  """The names that the page's blocks, one after another, leave behind."""
  names = {}
  text = (ROOT / "docs" / page).read_text(encoding="utf-8")
  blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
  assert blocks
  for block in blocks:
    exec(compile(block, page, "exec"), names)
  return names


@pytest.mark.parametrize(
  "page",
  [
    "data.md",
    "get_started.md",
    "how_to/compare_runs.md",
    "how_to/embed_new_data.md",
    "how_to/my_own_augmentation.md",
    "how_to/nan_or_constant_loss.md",
    "how_to/probe_an_encoder.md",
    "how_to/retrieve_neighbors.md",
    "how_to/search_by_example.md",
  ],
)
def test_the_code_of_short_pages_runs(page, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  write_photos(tmp_path)
  run_the_code_of(page)


def write_photos(folder):
  """Writes the folder `photos` that pages read."""
  photos = {
    f"photos/{('cats', 'dogs')[i % 2]}/{i:03d}.png": content(picture(i, 30 + i, 40), "PNG")
    for i in range(100)
  }
  write(folder, photos)


@pytest.mark.full
@pytest.mark.parametrize(
  "page",
  [
    "choosing.md",
    "coming_from.md",
    "config.md",
    "evaluation.md",
    "family.md",
    "how_to/export_an_encoder.md",
    "how_to/image_text_pairs.md",
    "how_to/my_own_encoder.md",
    "how_to/my_own_loss.md",
    "how_to/read_the_report.md",
    "how_to/resume_on_other_devices.md",
    "how_to/start_from_known_weights.md",
    "how_to/train_on_my_images.md",
    "how_to/use_hard_negatives.md",
    "methods.md",
    "mining.md",
    "negatives.md",
    "temperatures.md",
  ],
)
def test_the_code_of_the_pages_runs(page, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  write_photos(tmp_path)
  run_the_code_of(page)


def test_every_task_page_runs_and_is_listed():
  """Each page of docs/how_to has code that a test above runs, and a row in the list of pages."""
  source = pathlib.Path(__file__).read_text(encoding="utf-8")
  listed = (ROOT / "docs" / "how_to" / "index.md").read_text(encoding="utf-8")
  for path in ROOT.glob("docs/how_to/*.md"):
    if path.name != "index.md":
      assert f'"how_to/{path.name}"' in source and f"({path.name})" in listed, path.name


@pytest.mark.full
def test_the_page_of_own_parts_runs(tmp_path, monkeypatch):
  """A block that begins with the name of a file is that file; a bash block is run beside it."""
  monkeypatch.chdir(tmp_path)
  monkeypatch.syspath_prepend(tmp_path)
  (tmp_path / "docs").symlink_to(ROOT / "docs")
  environment = {**os.environ, "PYTHONPATH": str(ROOT)}
  text = (ROOT / "docs" / "your_own.md").read_text(encoding="utf-8")
  names, commands = {}, 0
  for language, block in re.findall(r"```(python|bash)\n(.*?)```", text, re.DOTALL):
    file = re.match(r"# (\w+\.py)\n", block)
    if language == "bash":
      for command in block.splitlines():
        command = [sys.executable, "-m", *command.split()]  # `contrastax run …`
        subprocess.run(command, cwd=tmp_path, env=environment, check=True)
        commands += 1
    elif file:
      (tmp_path / file[1]).write_text(block, encoding="utf-8")
    else:
      assert block.count("\n") <= 30
      exec(compile(block, "your_own.md", "exec"), names)
  assert commands == 2
  examples = {path.name for path in ROOT.glob("docs/examples/*.py")} - {"parts.py"}
  assert set(re.findall(r"^\| `(\w+\.py)` \|", text, re.M)) == examples


def test_the_code_of_the_engine_page_runs():
  names = run_the_code_of("engine.md")
  images, texts = names["images"], names["texts"]
  ours = names["losses"].nt_xent(images, texts, temperature=0.1)
  np.testing.assert_allclose(names["my_nt_xent"](images, texts, 0.1), ours, rtol=1e-5)
  assert np.isfinite(names["slope"])


def test_every_method_has_its_row():
  page = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
  rows = re.findall(r"^\| `([A-Z]\w+)` \|.*`configs/", page, re.M)
  assembled = re.findall(r"`(Siamese|Towers|Pairs)` \(", page)
  bases = {methods.BaseMethod, methods.ContrastiveMethod}
  assert {*rows, *assembled} == {
    name
    for name, found in vars(methods).items()
    if isinstance(found, type) and issubclass(found, methods.BaseMethod) and found not in bases
  }


def test_the_benchmarks_find_what_they_import():
  """With the packages that are installed; those that import a peer are left out."""
  peers = {"peers_parity", "weights_of_peers"}
  names = {path.stem for path in (ROOT / "benchmarks").glob("*.py")} - {"__init__"} - peers
  code = f"from benchmarks import {', '.join(sorted(names))}"
  subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_an_invented_name_would_be_found_out():
  with pytest.raises(AttributeError):
    find("contrastax.losses.no_such_loss")


def test_every_row_of_the_catalogue_has_a_state():
  rows = re.findall(r"^\| (\d+) \| .* \| (core|recipe) \| (done|part|—) \| (.*) \|$", CATALOG, re.M)
  kinds = collections.Counter(kind for _, kind, _, _ in rows)
  assert kinds == {"core": 108, "recipe": 116}
  assert len({number for number, *_ in rows}) == 224
  for number, _, state, what in rows:
    assert bool(what.strip()) == (state != "—"), number
  for kind in kinds:
    states = collections.Counter(state for _, k, state, _ in rows if k == kind)
    line = f"| {kind} | {states['done']} | {states['part']} | {states['—']} |"
    assert line in CATALOG, f"the count should read: {line}"


GUARANTEES = (ROOT / "docs" / "guarantees.md").read_text(encoding="utf-8")


def test_every_guarantee_names_a_test_that_exists():
  path, named = None, 0
  for found in re.findall(r"`(tests/\w+\.py)?(?:::(\w+))?`", GUARANTEES):
    path = found[0] or path
    if found[1]:
      named += 1
      assert f"def {found[1]}(" in (ROOT / path).read_text(encoding="utf-8"), found
  assert named > 50
