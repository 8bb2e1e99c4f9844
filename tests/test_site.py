"""The documentation site builds without a warning and shows every public name."""

import importlib
import importlib.util
import os
import pathlib
import pkgutil
import re
import subprocess
import sys
import types

import pytest

import contrastax

ROOT = pathlib.Path(__file__).parent.parent


def load_hook():
  spec = importlib.util.spec_from_file_location("site_hook", ROOT / "docs" / "site" / "hook.py")
  hook = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(hook)
  return hook


HOOK = load_hook()
PAGES = HOOK.public_names()


def imported_names(package):
  """The names that a package exports at run time, without modules."""
  module = importlib.import_module(package)
  names = getattr(module, "__all__", [name for name in vars(module) if not name.startswith("_")])
  values = {name: getattr(module, name) for name in names if name != "annotations"}
  return {name for name, value in values.items() if not isinstance(value, types.ModuleType)}


def test_every_export_of_every_package_has_a_place_on_an_api_page():
  packages = [
    each.name for each in pkgutil.walk_packages(contrastax.__path__, "contrastax.") if each.ispkg
  ]
  assert len(packages) > 14
  for package in ["contrastax", *packages]:
    assert imported_names(package) == set(PAGES.get(package, ())), package


def test_the_names_of_public_modules_exist():
  for module, names in PAGES.items():
    assert names, module
    for name in names:
      assert hasattr(importlib.import_module(module), name), f"{module}.{name}"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
  pytest.importorskip("mkdocs", reason="the site needs pip install -e '.[docs]'")
  folder = tmp_path_factory.mktemp("site")
  command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
  environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
  done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  return folder


def test_the_site_shows_every_public_name(site):
  for module, names in PAGES.items():
    page = (site / "api" / module / "index.html").read_text(encoding="utf-8")
    shown = set(re.findall(r'id="([\w.]+)"', page))
    missing = {f"{module}.{name}" for name in names} - shown
    assert not missing, missing


def test_the_site_has_a_page_for_each_document(site):
  for path in [*ROOT.glob("docs/**/*.md"), *ROOT.glob("colabs/*.ipynb")]:
    place = path.relative_to(ROOT / "docs" if "docs" in path.parts[-3:] else ROOT).with_suffix("")
    folder = place.parent if place.name == "index" else place
    assert (site / folder / "index.html").exists(), path


def test_every_entry_of_a_summary_has_a_description(site):
  for module in PAGES:
    page = (site / "api" / module / "index.html").read_text(encoding="utf-8")
    entries = re.findall(r'<li class="doc-section-item.*?</li>', page, flags=re.DOTALL)
    texts = [re.sub(r"<[^>]+>|\s+", " ", entry).strip() for entry in entries]
    assert texts or module == "contrastax", module
    assert not [text for text in texts if text.endswith("–")], module
