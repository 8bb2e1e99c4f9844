"""The data set `docstrings`: pairs of code and docstring from files that are only parsed."""

import pytest

from contrastax import data
from contrastax.core import UserError
from contrastax.data import docstrings
from contrastax.data.dataset import cut

MODULE = '''
"""The docstring of the module is no example."""
raise SystemExit("the file was executed")


@decorated
def area(width, height):
  """Returns the area of a rectangle.

  It is the product of both sides.
  """
  # a comment
  return width * height


class Shape:
  """A shape with
  an area."""

  def area(self):
    "It is computed by subclasses."
    raise NotImplementedError

  def short(self):
    """Too short."""
    return 0

  def empty(self):
    """This method has no code."""
'''


@pytest.fixture(scope="module")
def dataset():
  return data.load("docstrings")


def decoded(rows):
  return [bytes(row).rstrip(b"\0").decode() for row in rows]


def test_there_are_enough_pairs(dataset):
  sizes = [len(split["text"]) for split in dataset[:2]]
  assert sizes[0] >= 4_000 and sizes[1] >= 800 and sum(sizes) >= 5_000
  assert len(dataset.classes) >= 10
  for split in dataset[:2]:
    assert split["code"].shape[1] <= 256 and split["text"].shape[1] <= 96
    assert (split["code"][:, 0] > 0).all() and (split["text"][:, 0] > 0).all()


def test_no_test_example_repeats_a_training_example(dataset):
  for field in ("text", "code"):
    train, test = (set(decoded(split[field])) for split in dataset[:2])
    assert not train & test
  pairs = [(*decoded(s["code"]), *decoded(s["text"])) for s in dataset[:2]]
  assert len(set(pairs)) == len(pairs)


def test_the_pairs_are_of_the_file_and_nothing_is_executed(tmp_path):
  path = tmp_path / "module.py"
  path.write_text(MODULE)
  found = [*docstrings.pairs_of(path)]
  assert [pair.text for pair in found] == [
    "Returns the area of a rectangle.",
    "A shape with an area.",
    "It is computed by subclasses.",
  ]
  assert found[0].code == (
    "@decorated\ndef area(width, height):\n  # a comment\n  return width * height"
  )
  assert found[2].code == "def area(self):\n  raise NotImplementedError"
  for pair in found:
    assert not any(text in pair.code for text in ("shape with", "Returns", "computed", "Too short"))


@pytest.mark.parametrize(
  "content", [b"def f(:\n", b"\xff\xfe", b"x = '\0'", b"# coding: nothing\n", b""]
)
def test_a_file_that_is_not_python_has_no_pairs(tmp_path, content):
  path = tmp_path / "broken.py"
  path.write_bytes(content)
  assert [*docstrings.pairs_of(path)] == []


@pytest.fixture
def library(tmp_path, monkeypatch):
  """A small library of 40 files with 3 functions each, in place of that of Python."""
  library = tmp_path / "lib"
  (library / "json" / "tests").mkdir(parents=True)
  for i in range(40):
    code = "\n".join(
      f'def f{i}_{j}():\n  """Returns the number {i} of {j}."""\n  return {i}, {j}\n'
      for j in range(3)
    )
    (library / "json" / f"file{i}.py").write_text(code)
  (library / "json" / "tests" / "t.py").write_text(
    'def t():\n  """Is no example here."""\n  pass\n'
  )
  (library / "other.py").write_text('def t():\n  """Is no standard library."""\n  pass\n')
  monkeypatch.setattr(docstrings.sysconfig, "get_paths", lambda: {"stdlib": str(library)})
  return library


def test_all_examples_of_a_file_are_in_one_split(library):
  made = docstrings.load_docstrings()
  files = [
    {code.split("_")[0].removeprefix("def ") for code in decoded(split["code"])}
    for split in made[:2]
  ]
  assert not files[0] & files[1] and files[0] | files[1] == {f"f{i}" for i in range(40)}
  assert sum(len(split["text"]) for split in made[:2]) == 120
  assert made.classes == ("json",) and (made.test["label"] == 0).all()


def test_a_repeated_text_is_left_out_of_the_test_examples(library):
  for path in (library / "json").glob("file*.py"):
    path.write_text(
      f'def {path.stem}():\n  """Is in all files."""\n  return 0\n' + path.read_text()
    )
  made = docstrings.load_docstrings()
  counts = [decoded(split["text"]).count("Is in all files.") for split in made[:2]]
  assert counts[0] > 20 and counts[1] == 0


def test_a_python_without_sources_is_one_line(tmp_path, monkeypatch):
  monkeypatch.setattr(docstrings.sysconfig, "get_paths", lambda: {"stdlib": str(tmp_path)})
  with pytest.raises(UserError, match="has none") as error:
    docstrings.load_docstrings()
  assert "\n" not in str(error.value)


def test_a_cut_keeps_whole_characters():
  for length in range(12):
    short = cut("aé漢😀", length)
    assert len(short.encode()) <= length and "aé漢😀".startswith(short)
  assert cut("aé", 3) == "aé" and cut("aé", 2) == "a" and cut("a\ud800", 9) == "a?"


def test_the_lengths_are_arguments(library):
  made = data.load("docstrings", code_bytes=12, text_bytes=25)
  assert made.train["code"].shape[1] == 12 and made.train["text"].shape[1] == 25
  for wrong in ({"code_bytes": 0}, {"text_bytes": 1.5}):
    with pytest.raises(UserError, match=next(iter(wrong))):
      docstrings.load_docstrings(**wrong)
