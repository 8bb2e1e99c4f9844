"""An extension of Griffe, which reads the package for the API pages.

It makes a code block of each formula. In the source a formula is a paragraph that is indented, and
Markdown would join its lines and read its signs as markup. It also escapes shapes such as
`[in, out] [out, in]`, which Markdown would read as a link. Where a package exports a function under
the name of the function's module, such as `encoders.mlp`, the page shows the function.
"""

from __future__ import annotations

import re

import griffe

SECTION = re.compile(
  r"(Args|Attributes|Examples?|In other libraries|Notes?|Raises|References|Returns|Yields):\s*$"
)
ITEM = re.compile(r"\s*([-*+]|\d+\.) ")


def fence_formulas(text: str) -> str:
  """Returns a docstring whose indented paragraphs outside sections are fenced code."""
  lines, paragraph, in_section, in_list = [], [], False, False
  for line in [*text.splitlines(), ""]:
    if line.strip():
      paragraph.append(line)
      continue
    if paragraph:
      indented = all(each.startswith(" ") for each in paragraph)
      if not indented:
        in_section = bool(SECTION.match(paragraph[0]))
        in_list = bool(ITEM.match(paragraph[0]))
      elif not in_section and not in_list:
        margin = min(len(each) - len(each.lstrip()) for each in paragraph)
        paragraph = ["```text", *(each[margin:] for each in paragraph), "```"]
      lines += [*paragraph, ""]
      paragraph = []
  return "\n".join(lines).rstrip()


def escape_shapes(text: str) -> str:
  """Returns a docstring in which no two brackets outside of code are read as a link."""
  pieces = re.split(r"(```.*?```|`[^`]*`)", text, flags=re.DOTALL)
  pieces[::2] = [re.sub(r"\](\s?)\[", r"]\1\\[", piece) for piece in pieces[::2]]
  return "".join(pieces)


def all_modules(module: griffe.Module) -> dict[str, griffe.Module]:
  """Returns a module and the modules below it by their dotted names."""
  found = {module.path: module}
  for child in module.modules.values():
    found |= {} if child.is_alias else all_modules(child)
  return found


def rewrite_docstrings(owner: griffe.Object) -> None:
  """Prepares the docstrings of an object and of all that it defines for Markdown."""
  if owner.docstring:
    text = escape_shapes(fence_formulas(owner.docstring.value))
    owner.docstring.value = re.sub(r"^Example:$", "Examples:", text, flags=re.MULTILINE)
  for member in owner.members.values():
    if not member.is_alias:
      rewrite_docstrings(member)


def show_exports(package: griffe.Module) -> None:
  """Makes each exported name of a package stand for the object, also where a module has its name."""
  modules = all_modules(package)
  for module in modules.values():
    for name, target in module.imports.items():
      path, _, attribute = target.rpartition(".")
      if name == attribute and path in modules and path != module.path and module.is_init_module:
        exported = modules[path].members[attribute]
        module.members[name] = griffe.Alias(name, exported, parent=module)


class Pages(griffe.Extension):
  """Prepares the package for the API pages."""

  def on_package(self, *, pkg: griffe.Module, **kwargs) -> None:
    """Called once the whole package is read."""
    rewrite_docstrings(pkg)
    show_exports(pkg)
