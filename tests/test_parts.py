"""Parts: from `{name: …, **arguments}` to what it names, or to the nearest valid name."""

import dataclasses
import types

import numpy as np
import pytest

from contrastax import criteria, encoders, temperatures, views
from contrastax.core import UserError
from contrastax.parts import bind, build, nearest
from contrastax.training import optimizers
from contrastax.views import recipes


@dataclasses.dataclass(frozen=True)
class Kettle:
  volume: float
  colours: tuple = ("red",)
  label: object = None


def brew(water, *, leaves, minutes=3):
  return (water, leaves, minutes)


def _secret():
  return "out"


@pytest.fixture
def kitchen():
  """A package of parts: two public ones, a private one, and one from elsewhere."""
  package = types.ModuleType(__name__)
  package.Kettle, package.brew, package._secret = Kettle, brew, _secret
  package.TIME, package.foreign = 4, np.asarray
  return package


def test_a_part_is_built_with_its_arguments(kitchen):
  assert build(kitchen, {"name": "Kettle", "volume": 1.5}) == Kettle(1.5)
  assert build(kitchen, {"name": "brew", "leaves": "oolong"}, water=2) == (2, "oolong", 3)


def test_a_spec_is_left_as_it_is(kitchen):
  spec = {"name": "Kettle", "volume": 1.5, "colours": ["red", "blue"]}
  build(kitchen, spec)
  assert spec == {"name": "Kettle", "volume": 1.5, "colours": ["red", "blue"]}


def test_lists_become_tuples_at_any_depth(kitchen):
  kettle = build(kitchen, {"name": "Kettle", "volume": 1, "colours": [["red", 1], ["blue", 2]]})
  assert kettle.colours == (("red", 1), ("blue", 2))
  assert hash(kettle) == hash(Kettle(1, (("red", 1), ("blue", 2))))
  assert build(kitchen, {"name": "Kettle", "volume": 1, "label": {"a": [1]}}).label == {"a": (1,)}
  assert bind(kitchen, {"name": "brew", "leaves": ["a"]})("hot") == ("hot", ("a",), 3)


def test_bind_awaits_the_rest(kitchen):
  assert bind(kitchen, {"name": "brew", "leaves": "oolong", "minutes": 1})("w") == (
    "w",
    "oolong",
    1,
  )
  assert bind(kitchen, {"name": "brew"}) is brew


@pytest.mark.parametrize("make", [build, bind])
def test_an_unknown_name_is_answered_with_the_nearest(kitchen, make):
  with pytest.raises(UserError) as error:
    make(kitchen, {"name": "brwe"})
  assert str(error.value) == f"{__name__}: no 'brwe'; did you mean 'brew'?"


@pytest.mark.parametrize("make", [build, bind])
def test_a_name_like_no_other_is_answered_with_the_public_ones(kitchen, make):
  with pytest.raises(UserError) as error:
    make(kitchen, {"name": "xyz"})
  assert str(error.value) == f"{__name__}: no 'xyz'; there are: Kettle, brew"


@pytest.mark.parametrize("name", ["_secret", "foreign", "TIME", "__name__", "__class__", None, 3])
@pytest.mark.parametrize("make", [build, bind])
def test_only_the_public_parts_of_a_package_are_reachable(kitchen, make, name):
  with pytest.raises(UserError) as error:
    make(kitchen, {"name": name})
  assert str(error.value) == f"{__name__}: no {name!r}; there are: Kettle, brew"


@pytest.mark.parametrize("make", [build, bind])
def test_an_unknown_argument_is_answered_with_the_nearest(kitchen, make):
  with pytest.raises(UserError) as error:
    make(kitchen, {"name": "Kettle", "volme": 1.5})
  assert str(error.value) == f"{__name__}: Kettle takes no 'volme'; did you mean 'volume'?"
  with pytest.raises(UserError) as error:
    make(kitchen, {"name": "Kettle", "xyz": 1.5})
  assert str(error.value).endswith("Kettle takes no 'xyz'; there are: colours, label, volume")


def test_an_argument_that_is_given_is_not_the_configs_to_state(kitchen):
  with pytest.raises(UserError) as error:
    build(kitchen, {"name": "brew", "water": 1, "leaves": "oolong"}, water=2)
  assert str(error.value).endswith("brew takes no 'water'; there are: leaves, minutes")


def test_a_missing_argument_is_named(kitchen):
  with pytest.raises(UserError) as error:
    build(kitchen, {"name": "Kettle", "colours": ()})
  assert str(error.value) == f"{__name__}: Kettle needs 'volume'"
  with pytest.raises(UserError, match="brew needs 'leaves'"):
    build(kitchen, {"name": "brew"}, water=1)


@pytest.mark.parametrize("spec", ["Kettle", ["Kettle"], None, {}, {"volume": 1}], ids=repr)
@pytest.mark.parametrize("make", [build, bind])
def test_a_spec_is_a_mapping_with_a_name(kitchen, make, spec):
  with pytest.raises(UserError) as error:
    make(kitchen, spec)
  assert str(error.value) == (f"{__name__}: a part is {{'name': …, **arguments}}, not {spec!r}")


def test_the_packages_of_the_library_are_named_without_its_own_name():
  with pytest.raises(UserError) as error:
    build(views, {"name": "affine_jiter"})
  assert str(error.value) == "views: no 'affine_jiter'; did you mean 'affine_jitter'?"
  with pytest.raises(UserError) as error:
    build(views, {"name": "affine_jitter", "rotations": 3})
  assert str(error.value) == "views: affine_jitter takes no 'rotations'; did you mean 'rotation'?"
  with pytest.raises(UserError) as error:
    build(temperatures, {"name": "fixed"})
  assert str(error.value) == "temperatures: fixed needs 'temperature'"
  with pytest.raises(UserError, match="criteria: no 'infonce'; did you mean 'info_nce'?"):
    build(criteria, {"name": "infonce"})


def test_neither_private_nor_imported_names_of_the_library_are_reachable():
  with pytest.raises(
    UserError, match="training.optimizers: no '_schedule'; there are: adamw, lars, sgd"
  ):
    build(optimizers, {"name": "_schedule"})
  with pytest.raises(UserError, match="views.recipes: no 'UserError'"):
    build(recipes, {"name": "UserError"})
  with pytest.raises(UserError, match="encoders: no 'jax'"):
    build(encoders, {"name": "jax"})


def test_parts_of_the_library_are_built_from_their_specs():
  recipe = build(views, {"name": "affine_jitter", "shift": 0.2})
  assert recipe == views.affine_jitter(shift=0.2)
  assert build(criteria, {"name": "info_nce"}) == criteria.info_nce()


def test_nearest_is_a_suggestion_or_the_whole_list():
  assert nearest("sdg", ["sgd", "adamw"]) == "; did you mean 'sgd'?"
  assert nearest("qqq", ["sgd", "adamw"]) == "; there are: adamw, sgd"


def test_what_a_criterion_is_given_when_called_is_no_configs_business():
  for name in ("temperature", "memory", "plan", "bias"):
    with pytest.raises(UserError, match=f"info_nce takes no '{name}'; there are none"):
      build(criteria, {"name": "info_nce", name: 1})
