"""The pages of the site that are made from other files of the repository.

MkDocs runs this file (mkdocs.yml). It adds the README as the first page, the pages outside `docs/`
that a page links to, the notebooks, and an API page for each public module.
"""

from __future__ import annotations

import ast
import functools
import json
import pathlib
import posixpath
import re

ROOT = pathlib.Path(__file__).parent.parent.parent
PACKAGE = ROOT / "contrastax"
MODULES = (
  "core", "networks", "parts", "paths", "reporting.table", "schedules", "tables", "training.optimizers"
)  # fmt: skip
"""Public modules that are not packages; packages are found by their exports."""
LINK = re.compile(r"(\]\()([^)\s#]+)((?:#[^)\s]*)?\))")


def exports(path: pathlib.Path) -> list[str]:
  """Returns the names that an `__init__.py` exports by `import x as x`, in alphabetical order.

  A module that is exported in this way has a page of its own.
  """
  package = ".".join(path.parent.relative_to(ROOT).parts)
  return sorted(
    alias.asname
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    if isinstance(node, ast.ImportFrom) and node.module != package
    for alias in node.names
    if alias.asname == alias.name
  )


def definitions(path: pathlib.Path) -> list[str]:
  """Returns the public names that a module defines, in the order of the file."""
  names = []
  for node in ast.parse(path.read_text(encoding="utf-8")).body:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
      names.append(node.name)
    elif isinstance(node, ast.Assign):
      names.extend(each.id for each in node.targets if isinstance(each, ast.Name))
    elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
      names.append(node.target.id)
  return [name for name in names if not name.startswith("_")]


@functools.cache
def public_names() -> dict[str, list[str]]:
  """Returns the public names of each public module, by the module's dotted name."""
  pages = {}
  for path in sorted(PACKAGE.glob("**/__init__.py")):
    if names := exports(path):
      pages[".".join(path.parent.relative_to(ROOT).parts)] = names
  for module in MODULES:
    pages[f"contrastax.{module}"] = definitions(PACKAGE / f"{module.replace('.', '/')}.py")
  return dict(sorted(pages.items()))


def api_page(module: str, names: list[str]) -> str:
  """Returns the Markdown of a module's API page."""
  lines = [f"# {module}", "", f"::: {module}", "    options:"]
  lines += ["      show_root_heading: false", "      show_root_toc_entry: false", "      members:"]
  return "\n".join([*lines, *(f"        - {name}" for name in names)]) + "\n"


def api_index(modules: list[str]) -> str:
  """Returns the list of the API pages, with the first sentence of each module's docstring."""
  rows = []
  for module in modules:
    path = ROOT / module.replace(".", "/")
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    purpose = " ".join(docstring.split("\n\n")[0].split()).replace("|", "\\|")
    rows.append(f"| [`{module}`]({module}.md) | {purpose} |")
  intro = "Each page lists the public names of one module, with signatures and examples."
  return "\n".join(
    ["# API reference", "", intro, "", "| module | contents |", "|---|---|", *rows, ""]
  )


def notebook_page(path: pathlib.Path) -> str:
  """Returns a notebook as Markdown: its texts, code, printed results and figures."""
  parts = []
  for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
    source = "".join(cell["source"])
    parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
    for output in cell.get("outputs", ()):
      data = output.get("data", {})
      text = "".join(output.get("text", data.get("text/plain", "")))
      if "image/png" in data:
        parts.append(
          f"![Figure of the cell above](data:image/png;base64,{''.join(data['image/png'].split())})"
        )
      elif text.strip():
        parts.append(f"```text\n{text.rstrip()}\n```")
  return "\n\n".join(parts) + "\n"


def site_path(path: str) -> str:
  """Returns the place in the site of a file of the repository.

  The place of a public module is its API page.
  """
  if path == "README.md":
    return "index.md"
  module = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
  if path.endswith(".py") and module in public_names():
    return f"api/{module}.md"
  path = path.removeprefix("docs/")
  return path[: -len(".ipynb")] + ".md" if path.endswith(".ipynb") else path


def rewrite_links(text: str, path: str, repository: str) -> tuple[str, set[str]]:
  """Returns the text with the links of the site, and the files outside `docs/` that it needs.

  Args:
    text: the Markdown of a page.
    path: the page's path in the repository.
    repository: the address of the repository, for files that the site does not show.
  """
  needed = set()

  def replace(match: re.Match) -> str:
    before, target, after = match.groups()
    if ":" in target:
      return match[0]
    file = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
    if (ROOT / file).is_dir() and (ROOT / file / "README.md").exists():
      file = f"{file}/README.md"
    page = site_path(file)
    if file.endswith((".md", ".ipynb", ".png")) or page.startswith("api/"):
      if not file.startswith("docs/") and not page.startswith("api/"):
        needed.add(file)
      folder = posixpath.dirname(site_path(path))
      return before + posixpath.relpath(page, folder or ".") + after
    return f"{before}{repository}/blob/main/{file}{after}"

  return LINK.sub(replace, text), needed


def on_config(config):
  """Lists the API pages and the pages of results in the navigation."""
  sections = {title: pages for entry in config.nav for title, pages in entry.items()}
  sections["API reference"] += [{module: f"api/{module}.md"} for module in public_names()]
  for entry in sections["Results"]:
    for title, pages in entry.items():
      results = sorted(ROOT.glob(f"{title.lower()}/results/*.md"))
      pages += [path.relative_to(ROOT).as_posix() for path in results]
  return config


def on_files(files, config):
  """Adds the generated pages, and rewrites the links of all pages."""
  from mkdocs.structure.files import File  # the tests read the names without MkDocs

  modules = public_names()
  files.append(File.generated(config, "api/index.md", content=api_index(list(modules))))
  for module, names in modules.items():
    files.append(File.generated(config, f"api/{module}.md", content=api_page(module, names)))
  documents = {f"docs/{file.src_uri}" for file in files.documentation_pages() if file.abs_src_path}
  notebooks = {f"colabs/{path.name}" for path in ROOT.glob("colabs/*.ipynb")}
  waiting, done = documents | notebooks | {"README.md"}, set()
  while waiting:
    path = waiting.pop()
    done.add(path)
    if path.endswith(".png"):
      files.append(File.generated(config, site_path(path), abs_src_path=str(ROOT / path)))
      continue
    notebook = path.endswith(".ipynb")
    text = notebook_page(ROOT / path) if notebook else (ROOT / path).read_text(encoding="utf-8")
    text, needed = rewrite_links(text, path, config.repo_url)
    waiting |= needed - done
    if path in documents:
      files.remove(files.get_file_from_path(path.removeprefix("docs/")))
    files.append(File.generated(config, site_path(path), content=text))
  return files
