"""Every mistake in a config is one line: with the path of the key, and the nearest name."""

import functools
import importlib
import operator
import pathlib

import pytest

from contrastax.core import UserError
from contrastax.experiments.schema import completed, flat

ROOT = pathlib.Path(__file__).parent.parent
CONFIGS = sorted(path.stem for path in (ROOT / "configs").glob("*.py") if path.stem != "__init__")
REQUIRED = ("data", "batch_size", "steps", "method", "optimizer")
# Required arguments of parts; methods need all their networks and views.
NEEDED = {"fixed": ("temperature",), "queue": ("size",), "prototypes": ("count",),
          "mochi": ("hard", "mixed", "with_anchor"), "mlp": ("widths",),
          "cosine": ("start", "end"), "linear": ("start", "end")}  # fmt: skip
NETWORKS = ("encoder", "projection", "predictor", "prototypes", "other_encoder", "views")


def whole(name):
  config = importlib.import_module(f"configs.{name}").get_config().to_dict()
  return completed(config)


def places(value, path=()):
  """The paths of all mappings in a config except `related`, whose keys are names that a user chooses."""
  if path == ("related",):
    return
  if isinstance(value, dict):
    yield path
  items = value.items() if isinstance(value, dict) else enumerate(value)
  for key, inner in items:
    if isinstance(inner, dict | tuple):
      yield from places(inner, (*path, key))


def changed(config, path, change):
  """A copy of the config with the mapping at `path` changed in place."""
  root = lists(config)
  change(at(root, path))
  return root


def at(config, path):
  return functools.reduce(operator.getitem, path, config)


def lists(value):
  """A copy with lists in place of tuples."""
  if isinstance(value, dict):
    return {key: lists(inner) for key, inner in value.items()}
  return [lists(inner) for inner in value] if isinstance(value, tuple) else value


def written(path):
  return "config" + "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path)


def refused(config):
  with pytest.raises(UserError) as error:
    completed(config)
  assert "\n" not in str(error.value)
  return str(error.value)


@pytest.mark.parametrize("name", CONFIGS)
def test_every_key_mistyped_at_every_depth_is_refused_with_its_path_and_the_nearest(name):
  config, seen = whole(name), 0
  for path in places(config):
    node = at(config, path)
    for key in node:
      wrong = key[:-1] + "_" + key[-1]

      def mistype(node, key=key, wrong=wrong):
        node[wrong] = node.pop(key)

      said = refused(changed(config, path, mistype))
      assert said.startswith(written(path)), said
      if key == "name":
        assert said.startswith(f"{written(path)} needs 'name'"), said
      else:
        assert f"{wrong!r}; did you mean {key!r}?" in said, said
      seen += 1
  assert seen > 25


@pytest.mark.parametrize("name", CONFIGS)
def test_every_name_mistyped_is_refused_with_its_path_and_the_nearest(name):
  config = whole(name)
  for path in places(config):
    node = at(config, path)
    if path == ("data",) and ":" in node["name"]:  # the place of the data, which may be any text
      continue
    if path:
      right = node["name"]
      said = refused(changed(config, path, lambda node: node.update(name=node["name"] + "x")))
      kind = f"data set '{right}x'" if path == ("data",) else f"'{right}x' in "
      assert said.startswith(f"{written(path)}.name: no {kind}"), said
      assert f"did you mean {right!r}?" in said


@pytest.mark.parametrize("name", CONFIGS)
def test_every_required_key_that_is_left_out_is_named(name):
  config = whole(name)
  for key in REQUIRED:
    said = refused({k: v for k, v in config.items() if k != key})
    assert said == f"the config has no {key!r}; every config needs it"
  for path in places(config):
    node = at(config, path)
    needed = NETWORKS if path == ("method",) else NEEDED.get(node.get("name"), ())
    if node.get("name") == "Pairs":  # all of its other fields have defaults
      needed = ("encoder",)
    if path == ("optimizer",):
      needed = ("learning_rate",)
    for key in needed:
      if key in node:
        said = refused(changed(config, path, lambda node, key=key: node.pop(key)))
        assert said == f"{written(path)}: {node['name']} needs {key!r}"


@pytest.mark.parametrize("name", CONFIGS)
def test_every_value_of_a_wrong_type_is_refused_with_its_path(name):
  config = whole(name)
  for path in places(config):
    node = at(config, path)
    for key, value in node.items():
      # A part where a value is expected, and a list of values where a part is.
      wrongs = [[[3]], 3.5j] if isinstance(value, dict | tuple) else [{"name": "fixed"}, [3], 3.5j]
      if key == "related":  # a mapping of names, to which these belong
        wrongs = [[3], 3.5j]
      if type(value) in (int, float):
        wrongs += ["x", True]
      if isinstance(value, bool):
        wrongs += [1, "True"]
      for wrong in wrongs:
        said = refused(
          changed(config, path, lambda node, key=key, wrong=wrong: node.update({key: wrong}))
        )
        assert said.startswith(written((*path, key))), (said, key, wrong)


def test_a_schedule_is_taken_only_where_the_annotation_has_one():
  config, schedule = whole("digits_dino"), {"name": "cosine", "start": 0.9, "end": 1.0}
  config["method"]["momentum"] = schedule
  assert completed(config)["method"]["momentum"] == schedule
  config["method"]["center_momentum"] = schedule
  said = refused(config)
  assert said.startswith("config.method.center_momentum must be a number, not {'name': 'cosine'")


def test_an_integer_is_a_number_and_a_truth_value_is_none():
  config = whole("digits_simclr")
  config["optimizer"]["learning_rate"] = 1
  assert completed(config)["optimizer"]["learning_rate"] == 1.0
  config["batch_size"] = True
  assert refused(config) == "config.batch_size must be an integer, not True"


def test_a_part_is_expected_in_words():
  config = whole("digits_simclr")
  config["method"]["encoder"] = 0.1
  assert refused(config) == (
    "config.method.encoder must be a part, {'name': …}, such as "
    "{'name': 'mlp', 'widths': (64,)}, not 0.1"
  )


def test_what_a_run_gives_is_not_in_the_completed_config():
  keys = {key.rsplit(".", 1)[-1] for key in flat(whole("digits_dino"))}
  assert not keys & {"plan", "examples"}
  assert "steps" not in whole("digits_dino")["method"]["momentum"]
