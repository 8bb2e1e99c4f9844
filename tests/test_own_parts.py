"""A run whose encoder is a user's own: named in the config, allowed when the run is loaded."""

import sys

import pytest
import tiny

import contrastax
from contrastax.core import UserError
from contrastax.experiments import evaluate, run

MINE = """
from contrastax import encoders
from contrastax.core import Encoder

def encoder(width: int = 8) -> Encoder:
  return encoders.mlp((width,))
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
  """The folder of a run with an own encoder."""
  folder = tmp_path_factory.mktemp("own")
  (folder / "own_encoder.py").write_text(MINE)
  method = {**tiny.METHOD, "encoder": {"name": "own_encoder:encoder"}}
  with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(folder)
    assert run.main(tiny.written(folder, method=method)) == 0
    yield folder / "run"
  sys.modules.pop("own_encoder", None)


def test_load_imports_what_is_allowed(finished):
  with pytest.raises(UserError) as error:
    contrastax.load(finished)
  assert "encoder.name is 'own_encoder:encoder'" in str(error.value)
  assert "pass allow=('own_encoder',), or --allow=own_encoder" in str(error.value)
  encode = contrastax.load(finished, allow=("own_encoder",))
  assert encode(tiny.images()).shape == (40, 8)


def test_evaluate_imports_what_is_allowed(finished, capsys):
  assert evaluate.main(["evaluate", f"--workdir={finished}"]) == 2
  printed = capsys.readouterr().err
  assert printed.count("\n") == 1 and "--allow=own_encoder" in printed
  assert evaluate.main(["evaluate", f"--workdir={finished}", "--allow=own_encoder"]) == 0


VECTORS = """
import numpy as np
from contrastax import data

x = np.random.default_rng(0).normal(size=(60, 5)).astype(np.float32)
label = np.arange(60) % 2
plain = {"train": {"x": x[:40]}, "test": {"x": x[40:]}}
known = {
  "train": {"x": x[:40], "label": label[:40]}, "test": {"x": x[40:], "label": label[40:]}
}

def move(key, x, index):
  return x

def unlabeled():
  return data.Dataset(**plain)

def labeled():
  return data.Dataset(**known, classes=("even", "odd"))

def nameless():
  return data.Dataset(**known)

def mapping():
  return plain
"""


@pytest.mark.parametrize(
  ("made", "message"),
  [
    ("unlabeled", None),
    ("labeled", None),
    ("nameless", "has labels but no class names; give classes=('a', 'b', …)"),
    ("mapping", "own_data:mapping must return a data.Dataset, not dict"),
  ],
)
def test_data_of_ones_own(made, message, tmp_path, monkeypatch, capsys):
  (tmp_path / "own_data.py").write_text(VECTORS)
  monkeypatch.syspath_prepend(tmp_path)
  monkeypatch.delitem(sys.modules, "own_data", raising=False)
  method = {
    "name": "SimCLR",
    "input": "x",
    "encoder": {"name": "mlp", "widths": (4,)},
    "projection": {"name": "projection", "widths": (4,), "out": 4},
    "views": "own_data:move",
  }
  argv = tiny.written(tmp_path, method=method, data=f"own_data:{made}")
  assert run.main([*argv, "--dry_run"]) == (2 if message else 0)
  sys.modules.pop("own_data", None)
  assert message is None or message in capsys.readouterr().err


GAIN = """
from flax import nnx
from contrastax import encoders
from contrastax.core import Encoder

class Gain(nnx.Module):
  def __init__(self, x, rngs):
    self.gain = nnx.Param(x.shape[0] * nnx.initializers.ones(rngs.params(), (1,)))

  def __call__(self, x):
    return x.reshape(len(x), -1)[:, :8] * self.gain[...]

def encoder() -> Encoder:
  return encoders.from_nnx(Gain)
"""


@pytest.mark.parametrize("options", [[], ["--dry_run"]])
def test_a_parameter_that_no_rule_matches_is_refused_before_the_run(
  tmp_path, monkeypatch, capsys, options
):
  (tmp_path / "own_gain.py").write_text(GAIN)
  monkeypatch.syspath_prepend(tmp_path)
  method = {**tiny.METHOD, "encoder": {"name": "own_gain:encoder"}}
  assert run.main([*tiny.written(tmp_path, method=method), *options]) == 2
  printed = capsys.readouterr().err
  assert printed.startswith("error: no optimizer rule matches the parameter encoder/gain; add one")
  assert printed.count("\n") == 1
  assert not (tmp_path / "run" / "config.json").exists()
  sys.modules.pop("own_gain")
