"""An extension of Griffe, which reads the package for the API pages.

It makes a code block of each formula. In the source a formula is a paragraph that is indented, and
Markdown would join its lines and read its signs as markup. It also escapes shapes such as
`[in, out] [out, in]`, which Markdown would read as a link. Where a package exports a function under
the name of the function's module, such as `encoders.mlp`, the page shows the function.

A method without a docstring shows the first paragraph of the method that it overrides. A field that
its class describes has no section of its own.
"""

from __future__ import annotations

import re
import textwrap

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
  code = r"(```.*?```|`[^`]*`|^ *>>> .*?(?=\n *$|\Z))"
  pieces = re.split(code, text, flags=re.DOTALL | re.MULTILINE)
  pieces[::2] = [re.sub(r"\](\s?)\[", r"]\1\\[", piece) for piece in pieces[::2]]
  return "".join(pieces)


def show_titles(text: str) -> str:
  """Returns a docstring in which the titles of sections that Griffe does not read are bold."""
  title = re.compile(r"^(References|In other libraries|Notes?):\n((?:[ ]+.*\n|\n)*)", re.MULTILINE)

  def replace(match: re.Match) -> str:
    return f"**{match[1]}:**\n\n{textwrap.dedent(match[2])}"

  return title.sub(replace, text + "\n").rstrip()


def all_modules(module: griffe.Module) -> dict[str, griffe.Module]:
  """Returns a module and the modules below it by their dotted names."""
  found = {module.path: module}
  for child in module.modules.values():
    found |= {} if child.is_alias else all_modules(child)
  return found


def name_return_type(text: str, annotation: griffe.Expr | str | None) -> str:
  """Returns a docstring whose result has a type, so that Griffe reads none before a colon."""
  first_line = re.compile(r"^(Returns:\n +)(?=\S.*: )", re.MULTILINE)
  return first_line.sub(rf"\g<1>{annotation}: ", text) if annotation else text


def rewrite_docstrings(owner: griffe.Object) -> None:
  """Prepares the docstrings of an object and of all that it defines for Markdown."""
  if owner.docstring:
    text = escape_shapes(show_titles(fence_formulas(owner.docstring.value)))
    text = name_return_type(text, owner.returns) if owner.is_function else text
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


def describe_overrides(owner: griffe.Class) -> None:
  """Gives members without a docstring the first paragraph of the member that they override."""
  for member in owner.members.values():
    if member.docstring or member.is_alias:
      continue
    for base in owner.mro():
      overridden = base.members.get(member.name)
      if overridden and overridden.docstring:
        text = overridden.docstring
        member.docstring = griffe.Docstring(
          text.value.split("\n\n")[0],
          parent=member,
          parser=text.parser,
          parser_options=text.parser_options,
        )
        break


def fold_fields(owner: griffe.Class) -> None:
  """Removes the fields that the signature or the docstring of a class shows.

  Griffe knows the types of arguments. Types are missing only for attributes and in named tuples, so
  this function adds them to the docstring. A computed field without a description is removed too.
  """
  parameters = {each.name for each in owner.parameters}
  for name, field in list(owner.members.items()):
    if not field.is_attribute or field.docstring or not owner.docstring:
      continue
    text = owner.docstring.value
    described = re.search(rf"^ +{name}( \(.*\))?: ", text, re.MULTILINE)
    if field.annotation and name not in parameters:
      untyped = re.compile(rf"^( +{name}):(?= )", re.MULTILINE)
      owner.docstring.value = untyped.sub(rf"\1 ({field.annotation}):", text, count=1)
    if described or name in parameters or "init=False" in str(field.value):
      del owner.members[name]


def all_classes(module: griffe.Module) -> list[griffe.Class]:
  """Returns the classes that a module and the modules below it define."""
  modules = all_modules(module).values()
  return [each for one in modules for each in one.classes.values() if not each.is_alias]


class Pages(griffe.Extension):
  """Prepares the package for the API pages."""

  def on_package(self, *, pkg: griffe.Module, **kwargs) -> None:
    """Called once the whole package is read, and the arguments of its dataclasses are known."""
    rewrite_docstrings(pkg)
    for owner in all_classes(pkg):
      describe_overrides(owner)
    for owner in all_classes(pkg):
      fold_fields(owner)
    show_exports(pkg)
