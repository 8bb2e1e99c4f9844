"""The command `contrastax`, from an empty folder, and what an import of the package loads."""

import os
import pathlib
import subprocess
import sys

import pytest

import contrastax
from contrastax.cli import COMMANDS, main
from contrastax.experiments import examples

CONFIGS = pathlib.Path(__file__).parents[1] / "configs"


def test_the_version_and_the_help(capsys):
  assert main(["--version"]) == 0
  assert capsys.readouterr().out == f"contrastax {contrastax.__version__}\n"
  for arguments in (["--help"], []):
    assert main(arguments) == 0
    found = capsys.readouterr().out
    assert all(f"contrastax {name}" in found for name in COMMANDS)


def test_an_unknown_command_is_one_line(capsys):
  assert main(["train"]) == 2
  error = capsys.readouterr().err
  assert error == (
    "error: there is no command 'train'; the commands are run, evaluate, embed, search, export, "
    "compare, configs, prepare\n"
  )


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_ends_early_is_no_error(unbuffered):
  reads = subprocess.Popen(["true"], stdin=subprocess.PIPE)
  reads.wait()
  command = [sys.executable, "-m", "contrastax", "compare", "--help"]
  environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
  result = subprocess.run(command, stdout=reads.stdin, stderr=subprocess.PIPE, env=environment)
  assert result.returncode == 128 + 13 and result.stderr == b""


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help(command, capsys):
  assert main([command, "--help"]) == 0
  assert f"contrastax {command}" in capsys.readouterr().out


def test_every_config_is_listed_with_its_data(capsys):
  assert main(["configs"]) == 0
  lines = capsys.readouterr().out.splitlines()
  listed = {line.split()[0]: line.split()[1] for line in lines[1:-2]}
  assert set(listed) == {p.stem for p in CONFIGS.glob("*.py")} - {"__init__"}
  assert listed["digits_simclr"] == "digits" and listed["cifar10_simclr"] == "tfds:cifar10"


def test_a_config_is_printed(capsys):
  assert main(["configs", "digits_moco"]) == 0
  assert capsys.readouterr().out == (CONFIGS / "digits_moco.py").read_text()


def test_a_misspelled_config_names_the_nearest(capsys):
  for arguments in (["configs", "digits_simcl"], ["run", "digits_simcl"]):
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "did you mean digits_simclr?" in error


def test_a_config_by_name_runs_in_an_empty_folder(tmp_path, monkeypatch, capsys):
  monkeypatch.chdir(tmp_path)
  tiny = ["--config.steps=5", "--config.batch_size=8", "--dry_run"]
  assert main(["run", "digits_simclr:runlocal", *tiny]) == 0
  named = capsys.readouterr().out
  assert main(["run", f"--config={CONFIGS}/digits_simclr.py:runlocal", *tiny]) == 0
  assert capsys.readouterr().out == named
  assert not list(tmp_path.iterdir())  # a dry run writes nothing


def test_a_config_may_name_a_module_in_the_current_folder(tmp_path):
  """The folder of the script `contrastax`, and not the current one, is first on sys.path."""
  (tmp_path / "bin").mkdir()
  script = tmp_path / "bin" / "contrastax.script"
  script.write_text("import sys\nfrom contrastax.cli import main\nsys.exit(main())\n")
  (tmp_path / "mine.py").write_text("def digits():\n  raise SystemExit('mine was found')\n")
  command = [sys.executable, script, "run", "digits_simclr", "--config.data=mine:digits"]
  done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
  assert done.stderr == "mine was found\n"


def test_the_configs_of_a_checkout_are_found_without_an_installation(monkeypatch):
  installed = examples.folder()
  monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
  assert examples.folder() == CONFIGS
  assert {p.name for p in installed.glob("*.py")} == {p.name for p in CONFIGS.glob("*.py")}


IMPORTS = """
import sys, time
start = time.process_time()
import jax
jax_seconds = time.process_time() - start
start = time.process_time()
import contrastax
seconds = time.process_time() - start
contrastax.losses, contrastax.methods, contrastax.training, contrastax.evaluation, contrastax.data
heavy = ("sklearn", "scipy.stats", "orbax.checkpoint", "matplotlib", "tensorboardX", "safetensors",
         "tensorflow_datasets", "tensorflow")
print(seconds, *[name for name in heavy if name in sys.modules])
"""


def test_an_import_is_fast_and_loads_no_heavy_library():
  done = subprocess.run([sys.executable, "-c", IMPORTS], capture_output=True, text=True, check=True)
  seconds, *heavy = done.stdout.split()
  assert float(seconds) <= 0.3  # of the processor, beyond JAX's own
  assert heavy == []


def test_an_unknown_attribute_is_an_attribute_error():
  with pytest.raises(AttributeError, match="no attribute 'loses'"):
    _ = contrastax.loses
  assert {"losses", "load", "UserError", "__version__"} <= set(dir(contrastax))
