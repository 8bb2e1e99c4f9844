"""The public API: signatures as `tests/api.txt` lists them, all of them with types.

`python tests/test_api.py` writes the list anew, after an intended change.
"""

import difflib
import importlib
import inspect
import pathlib
import re
import types

from typing_extensions import is_protocol

import contrastax

LIST = pathlib.Path(__file__).parent / "api.txt"
MODULES = (
  "contrastax",
  "contrastax.core",
  *(
    f"contrastax.{name}"
    for name in contrastax.__all__
    if isinstance(getattr(contrastax, name), types.ModuleType)
  ),
)


def exported(module):
  """The public names of a module and their values, without submodules and imported libraries."""
  found = {}
  for name in sorted(set(dir(module)) - {"annotations"}):
    value = getattr(module, name)
    if name.startswith("_") or isinstance(value, types.ModuleType):
      continue
    home = getattr(value, "__module__", None)
    if isinstance(home, str) and home.startswith("contrastax"):
      found[name] = value
  return found


def methods(cls):
  """The public methods that a class of ours defines itself, and `__call__`."""
  return {
    name: value.__func__ if isinstance(value, classmethod | staticmethod) else value
    for name, value in sorted(vars(cls).items())
    if (not name.startswith("_") or name == "__call__")
    and isinstance(value, types.FunctionType | classmethod | staticmethod)
  }


def callables():
  """Every public function, class and method by its full name."""
  for module in MODULES:
    for name, value in exported(importlib.import_module(module)).items():
      full = f"{module}.{name}"
      if inspect.isclass(value) or inspect.isfunction(value):
        yield full, value
      if inspect.isclass(value):
        for method, function in methods(value).items():
          yield f"{full}.{method}", function


def signature(value):
  """The signature, or None for exceptions and protocols, whose constructors Python defines."""
  if inspect.isclass(value) and (issubclass(value, Exception) or is_protocol(value)):
    return None
  return inspect.signature(value)


def lines():
  """One line for each public callable, which does not depend on Python's version or on memory."""
  found = []
  for name, value in callables():
    text = str(signature(value) or "")
    text = re.sub(r"ForwardRef\('([^']*)'[^)]*\)", r"\1", text)
    text = re.sub(r"(: |-> )'([^']*)'", r"\1\2", text)
    text = re.sub(r'(: |-> )"([^"]*)"', r"\1\2", text)
    found.append(name + re.sub(r"<(function \S+) at 0x[0-9a-f]+>", r"<\1>", text))
  return found


def test_the_public_signatures_are_those_of_the_list():
  changes = difflib.unified_diff(
    LIST.read_text().splitlines(), lines(), "api.txt", "code", "", "", 0
  )
  text = "\n".join(changes)
  assert not text, f"intended? then run: python tests/test_api.py\n{text}"


def test_every_public_parameter_and_result_has_a_type():
  missing = []
  for name, value in callables():
    found = signature(value)
    if found is None:
      continue
    untyped = [
      p.name
      for p in found.parameters.values()
      if p.annotation is p.empty and p.name not in ("self", "cls", "_cls")
    ]
    if untyped:
      missing.append(f"{name}: {', '.join(untyped)}")
    if not inspect.isclass(value) and found.return_annotation is found.empty:
      missing.append(f"{name}: its result")
  assert not missing, "\n".join(missing)


def test_a_changed_signature_is_found(monkeypatch):
  def nt_xent(z1, z2, *, temperature, plan=None):
    raise NotImplementedError

  nt_xent.__module__ = "contrastax.losses.softmax"
  monkeypatch.setattr(contrastax.losses, "nt_xent", nt_xent)
  changed = set(LIST.read_text().splitlines()) ^ set(lines())
  assert {line.partition("(")[0] for line in changed} == {"contrastax.losses.nt_xent"}


if __name__ == "__main__":
  LIST.write_text("\n".join(lines()) + "\n")
  print(f"wrote {LIST}")
