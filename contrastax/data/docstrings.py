"""The data set `docstrings`: code of Python's standard library with its docstrings."""

from __future__ import annotations

import ast
import pathlib
import sys
import sysconfig
import textwrap
import tokenize
import warnings
from collections.abc import Iterator
from typing import NamedTuple

from contrastax.core import UserError, check_integer
from contrastax.data.dataset import Dataset, cut, divide, encode_texts
from contrastax.data.splits import frequent_classes, new_in_test, one_in

CODE_BYTES, TEXT_BYTES = 256, 96
LEAST_WORDS = 3  # A shorter docstring describes no code.
LEAST = 50  # The fewest training examples of a class.
HELD_OUT = 5  # One file in so many is a test file.
LEFT_OUT = {"test", "tests", "idle_test", "site-packages", "dist-packages", "__phello__"}
DOCUMENTED = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


class Pair(NamedTuple):
  """A function or a class of one file.

  Args:
    code: the source without docstrings.
    text: the first paragraph of the docstring, on one line.
  """

  code: str
  text: str


def load_docstrings(*, code_bytes: int = CODE_BYTES, text_bytes: int = TEXT_BYTES) -> Dataset:
  """Reads the functions and classes of Python's standard library that have a docstring.

  The files of the running Python are parsed, and neither imported nor executed. So the number of
  examples depends on the version of Python. The fields:

  - `code` [n, length] uint8: the source of a function or class, without docstrings and without the
    indentation of its first line, in UTF-8 and followed by zeros. It is cut to `code_bytes`.
  - `text` [n, length] uint8: the first paragraph of its docstring, on one line. It is cut to
    `text_bytes`.
  - `label` [n] int32: the module or package at the top of the library, such as "email". One with
    fewer than 50 training examples is no class, and the label is −1.

  Docstrings of fewer than three words are left out, and so are repeated pairs. A checksum of the
  path chooses one file in five, whose examples are the test examples. A test example is left out if
  its code or its text, after the cut, also occurs in training.

  Args:
    code_bytes: the largest length of the code, at least 1.
    text_bytes: the largest length of the text, at least 1.

  Returns:
    The data set.

  Raises:
    UserError: a length is below 1, or Python has no source files of its library.
  """
  check_integer("code_bytes", code_bytes, 1)
  check_integer("text_bytes", text_bytes, 1)
  library = pathlib.Path(sysconfig.get_paths()["stdlib"])
  found: dict[Pair, str] = {}  # Each pair once, with its file.
  for path in library_files(library):
    for pair in pairs_of(path):
      short = Pair(cut(pair.code, code_bytes), cut(pair.text, text_bytes))
      found.setdefault(short, path.relative_to(library).as_posix())
  if not found:
    raise UserError(
      f"docstrings needs the source files of Python's library, and {library} has none; use a Python "
      "with its library, such as that of python.org or conda"
    )
  pairs, places = [*found], [*found.values()]
  held_out = one_in(HELD_OUT, places)
  remaining = new_in_test(held_out, *zip(*pairs, strict=True))
  kinds = [place.split("/")[0].removesuffix(".py") for place in places]
  label, classes = frequent_classes(kinds, held_out, LEAST)
  arrays = {
    "code": encode_texts([pair.code for pair in pairs]),
    "text": encode_texts([pair.text for pair in pairs]),
    "label": label,
  }
  kept = {name: rows[remaining] for name, rows in arrays.items()}
  return divide(kept, held_out[remaining], classes)


def library_files(library: pathlib.Path) -> list[pathlib.Path]:
  """Returns the source files of the standard library, without its tests, in sorted order."""
  return sorted(
    path
    for path in library.rglob("*.py")
    if LEFT_OUT.isdisjoint(path.relative_to(library).parts)
    and path.relative_to(library).parts[0].removesuffix(".py") in sys.stdlib_module_names
  )


def pairs_of(path: pathlib.Path) -> Iterator[Pair]:
  """Yields the documented functions and classes of a file, in the order of the file.

  A file that is not valid Python has none.
  """
  try:
    with tokenize.open(path) as file:  # It decodes the file as Python does.
      source = file.read()
    with warnings.catch_warnings(action="ignore"):  # for invalid escapes in old modules
      tree = ast.parse(source)
  except (OSError, SyntaxError, ValueError):
    return
  lines = source.split("\n")
  nodes = [node for node in statements(tree) if isinstance(node, DOCUMENTED)]
  documented = [node for node in nodes if ast.get_docstring(node, clean=False) is not None]
  left_out = {number for node in documented for number in line_numbers(node.body[0])}
  for node in sorted(documented, key=lambda node: node.lineno):
    text = " ".join((ast.get_docstring(node) or "").split("\n\n")[0].split())
    # A body that only consists of a docstring is no code.
    if len(text.split()) >= LEAST_WORDS and len(node.body) > 1:
      code = "\n".join(lines[i - 1] for i in line_numbers(node) if i not in left_out)
      yield Pair(textwrap.dedent(code).strip("\n"), text)


def statements(tree: ast.Module) -> Iterator[ast.AST]:
  """Yields the statements of a module, including those within others, in any order."""
  waiting: list[ast.AST] = [tree]
  while waiting:
    for child in ast.iter_child_nodes(waiting.pop()):
      # The last two are parts of statements that contain statements. Expressions contain none.
      if isinstance(child, ast.stmt | ast.excepthandler | ast.match_case):
        waiting.append(child)
        yield child


def line_numbers(node: ast.stmt) -> range:
  """Returns the numbers of the lines of a statement, with the decorators of a function or class."""
  decorators = node.decorator_list if isinstance(node, DOCUMENTED) else []
  start = min([node.lineno, *(decorator.lineno for decorator in decorators)])
  return range(start, (node.end_lineno or node.lineno) + 1)
