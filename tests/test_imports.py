"""What importing us does, and what may import what."""

import pathlib
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).parent.parent


def lint(folder):
  script = pathlib.Path(sys.executable).with_name("lint-imports")
  return subprocess.run([script, "--no-cache"], cwd=folder, capture_output=True, text=True)


def test_imports_only_go_down():
  done = lint(ROOT)
  assert done.returncode == 0, done.stdout


def test_an_import_upwards_would_be_found_out(tmp_path):
  for part in ("contrastax", "experiments", "configs", "pyproject.toml"):
    copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
    copy(ROOT / part, tmp_path / part)
  (tmp_path / "contrastax" / "pairwise" / "planted.py").write_text("import contrastax.losses\n")
  done = lint(tmp_path)
  assert done.returncode == 1 and "contrastax.pairwise.planted" in done.stdout


def test_importing_changes_no_setting_and_needs_no_tensorflow():
  check = """
import sys, jax
import contrastax, contrastax.data, contrastax.methods, contrastax.training, contrastax.reporting
assert not jax.config.jax_enable_x64
assert "tensorflow" not in sys.modules and "tensorflow_datasets" not in sys.modules
"""
  subprocess.run([sys.executable, "-c", check], check=True)
