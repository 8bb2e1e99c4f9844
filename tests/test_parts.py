"""Parts: from `{name: …, **arguments}` to what it names, or to the nearest valid name."""

import dataclasses
import sys
import textwrap

import pytest

from contrastax import core, methods, negatives, relations, temperatures, views
from contrastax.annotations import MISSING
from contrastax.core import Encoder, UserError
from contrastax.losses import mv_dhel
from contrastax.nouns import NOUNS, nearest, parameters_of, parts_of
from contrastax.pairwise import Plan, cosine
from contrastax.parts import UnknownKey, assemble, complete
from contrastax.relations import Relation

RECIPE = {"name": "affine_jitter", "shift": 0.2}
METHOD = {
  "name": "SimCLR",
  "encoder": {"name": "mlp", "widths": [4]},
  "projection": {"name": "projection"},
  "views": RECIPE,
}


def refused(noun, spec, where="config", **options):
  with pytest.raises(UserError) as error:
    assemble(noun, spec, where, **options)
  assert "\n" not in str(error.value)
  return str(error.value)


def test_a_part_is_built_with_its_arguments():
  assert assemble(core.Recipe, RECIPE, "views") == views.affine_jitter(shift=0.2)
  assert assemble(core.Score, {"name": "cosine"}, "score") == cosine()


def test_a_spec_is_left_as_it_is():
  spec = {"name": "multi_crop", "sizes": [32, 16], "counts": [2, 2]}
  assemble(core.Recipe, spec, "views")
  assert spec == {"name": "multi_crop", "sizes": [32, 16], "counts": [2, 2]}


def test_parts_nest_and_lists_become_tuples():
  method = assemble(core.Method, METHOD, "config.method")
  assert isinstance(method, methods.SimCLR)
  assert isinstance(method.encoder, Encoder) and method.views == views.affine_jitter(shift=0.2)
  chunked = {"name": "chunked", "encoder": METHOD["encoder"], "n": 2}
  assert isinstance(assemble(Encoder, chunked, "encoder"), Encoder)


def test_negatives_are_joined_by_plus_and_relations_by_and():
  several = [{"name": "in_batch"}, {"name": "queue", "size": 8}]
  expected = negatives.in_batch() + negatives.queue(8)
  assert assemble(core.Negatives, several, "negatives") == expected
  assert assemble(core.Negatives, several[1:], "negatives") == negatives.queue(8)
  assert assemble(core.Negatives, several[1], "negatives") == negatives.queue(8)
  both = [{"name": "same_example"}, {"name": "other_view"}]
  expected = relations.same_example() & relations.other_view()
  assert assemble(Relation, both, "relation") == expected
  assert "config must be a part" in refused(Relation, [])


def test_a_tuple_of_other_parts_stays_a_tuple():
  hint = core.Recipe | tuple[core.Recipe, ...]
  assert assemble(hint, [RECIPE, RECIPE], "views") == (views.affine_jitter(shift=0.2),) * 2
  assert assemble(hint, RECIPE, "views") == views.affine_jitter(shift=0.2)
  assert "config[1]: affine_jitter takes no 'shft'" in refused(
    hint, [RECIPE, {"name": "affine_jitter", "shft": 1}]
  )
  two = tuple[core.Recipe, core.Recipe] | core.Recipe
  assert "config must be a tuple of 2 parts or a part" in refused(two, [RECIPE])


def test_a_dataclass_is_a_part_without_a_name():
  @dataclasses.dataclass(frozen=True)
  class Tower:
    tag: str
    encoder: Encoder
    views: core.Recipe | None = None

  spec = [{"tag": "a", "encoder": METHOD["encoder"]}, {"tag": "b", "encoder": METHOD["encoder"]}]
  towers = assemble(tuple[Tower, ...], spec, "towers")
  assert [tower.tag for tower in towers] == ["a", "b"] and towers[0].views is None
  said = refused(tuple[Tower, ...], [{"tga": "a"}], "config.method.towers")
  assert said == "config.method.towers[0]: Tower takes no 'tga'; did you mean 'tag'?"
  assert "config[0]: Tower needs 'encoder'" in refused(tuple[Tower, ...], [{"tag": "a"}])


def test_plan_and_examples_are_given_where_a_part_has_them():
  plan = Plan(block=64)
  given = {"plan": plan, "examples": 7}
  method = assemble(core.Method, METHOD, "method", given=given)
  assert method.plan is plan and method.examples == 7
  stated = METHOD | {"examples": 3, "plan": {"axis": "model"}}
  method = assemble(core.Method, stated, "method", given=given)
  assert method.plan == Plan(block=64, axis="model") and method.examples == 3
  said = refused(core.Method, METHOD | {"plan": {"blok": 3}}, "method", given=given)
  assert said == "method.plan: Plan takes no 'blok'; did you mean 'block'?"


def test_steps_are_given_to_schedules_and_optimizers_alone():
  schedule = {"name": "linear", "start": 0.0, "end": 1.0}
  line = assemble(float | core.Schedule, schedule, "momentum", given={"steps": 4})
  assert line(1) == 0.25
  own = assemble(float | core.Schedule, schedule | {"steps": 2}, "momentum", given={"steps": 4})
  assert own(1) == 0.5
  assert "linear needs 'steps'" in refused(core.Schedule, schedule)
  spec = {"name": "noise", "count": 1, "size": 0.1, "temperature": 0.1}
  assert "noise needs 'steps'" in refused(core.Negatives, spec, given={"steps": 4})


def test_an_array_loss_awaits_what_its_owner_passes():
  @dataclasses.dataclass(frozen=True)
  class Owner:
    loss: core.ArrayLoss
    temperature: float = 0.5

  assert assemble(Owner, {"loss": {"name": "mv_dhel"}}, "term").loss is mv_dhel
  said = refused(Owner, {"loss": {"name": "mv_dhel", "temperature": 0.1}}, "term")
  assert said == "term.loss: mv_dhel takes no 'temperature'; there are: plan"

  @dataclasses.dataclass(frozen=True)
  class Other:
    loss: core.ArrayLoss

  assert refused(Other, {"loss": {"name": "mv_dhel"}}, "term") == (
    "term.loss: mv_dhel needs 'temperature'"
  )
  said = refused(Other, {"loss": {"name": "mv_dhel", "temperature": "0.1"}}, "term")
  assert said == "term.loss.temperature must be a number, not '0.1'"
  plan = Plan(block=8)
  spec = {"loss": {"name": "mv_dhel", "temperature": 0.1}}
  bound = assemble(Other, spec, "term", given={"plan": plan}).loss
  assert bound.func is mv_dhel and bound.keywords == {"temperature": 0.1, "plan": plan}


def test_an_unknown_name_is_answered_with_the_nearest_or_all():
  assert refused(Encoder, {"name": "convnt"}, "config.method.encoder") == (
    "config.method.encoder.name: no 'convnt' in encoders; did you mean 'convnet'?"
  )
  assert refused(core.Temperature, {"name": "qqq"}) == (
    "config.name: no 'qqq' in temperatures; there are: fixed, individual, learned, scheduled"
  )


@pytest.mark.parametrize(
  ("noun", "name"),
  [
    (Encoder, "to_torch"), (Encoder, "jax"), (Encoder, None), (Encoder, 3), (Encoder, "__name__"),
    (core.Recipe, "to_gray"), (core.Recipe, "flip"), (core.Recipe, "Mixed"),
    (core.Recipe, "draw_views"), (core.Negatives, "mine"), (core.Negatives, "NegativeSource"),
    (core.Negatives, "on_arrays"), (Relation, "Relation"), (core.Schedule, "at"),
    (core.Method, "simclr"), (core.ArrayLoss, "groups"),
  ],
)  # fmt: skip
def test_only_parts_of_the_noun_are_reachable(noun, name):
  said = refused(noun, {"name": name})
  assert "config.name: no " in said or "config needs 'name'" in said


@pytest.mark.parametrize("name", [name for name in NOUNS if not NOUNS[name].called])
def test_every_argument_of_every_part_has_an_annotation(name):
  for part in parts_of(NOUNS[name]).values():
    for argument, (hint, _) in parameters_of(part, called=False).items():
      assert hint is not MISSING, (part, argument)


def test_an_unknown_argument_is_answered_with_the_nearest_and_its_path():
  with pytest.raises(UnknownKey) as error:
    assemble(core.Recipe, {"name": "affine_jitter", "rotations": 3}, "config.views")
  assert error.value.path == "config.views.rotations"
  assert str(error.value) == (
    "config.views: affine_jitter takes no 'rotations'; did you mean 'rotation'?"
  )


def test_a_missing_argument_is_named():
  assert refused(core.Temperature, {"name": "fixed"}) == "config: fixed needs 'temperature'"
  assert refused(core.Method, METHOD | {"name": "BYOL"}) == "config: BYOL needs 'predictor'"


@pytest.mark.parametrize("spec", ["map", ["mlp"], None, 3], ids=repr)
def test_what_is_no_part_is_refused_in_words(spec):
  assert refused(Encoder, spec) == (
    f"config must be a part, {{'name': …}}, such as {{'name': 'mlp', 'widths': (64,)}}, not {spec!r}"
  )


def test_the_bare_name_of_a_part_is_answered_with_the_part():
  said = refused(Encoder, "mlp")
  assert said == "config must be a part; write {'name': 'mlp'} in place of 'mlp'"


def test_an_error_of_the_part_itself_has_its_path():
  spec = METHOD | {"temperature": {"name": "fixed", "temperature": -1}}
  said = refused(core.Method, spec, "config.method")
  assert said.startswith("config.method.temperature: a temperature must be a number above 0")


def test_the_completed_spec_has_all_defaults_and_builds_the_same():
  found = complete(core.Method, METHOD, "method")
  assert found["temperature"] == {"name": "fixed", "temperature": 0.5}
  assert found["negatives"] == ({"name": "in_batch"},)
  assert found["views"]["rotation"] == 10.0
  assert complete(core.Method, found, "method") == found
  clip = {"name": "CLIP", "other_encoder": {"name": "text"}, "other_projection": METHOD["encoder"]}
  found = complete(core.Method, METHOD | clip, "method")
  assert found["relation"] == ({"name": "same_example"}, {"name": "other_view"})
  assert found["other_views"] == {"name": "unchanged"}
  assert found["temperature"]["max_temperature"] == float("inf")
  one, other = (assemble(core.Method, spec, "method") for spec in (METHOD | clip, found))
  for name in ("temperature", "relation", "negatives", "score", "views", "other_views"):
    assert getattr(one, name) == getattr(other, name)


def test_a_default_that_no_spec_can_express_is_left_out():
  @dataclasses.dataclass(frozen=True)
  class Owner:
    views: core.Recipe = lambda key, x, index: x
    size: int = 3

  assert complete(Owner, {}, "owner") == {"size": 3}
  assert assemble(Owner, {}, "owner") == Owner()


def test_terms_nest_in_a_method_and_have_their_paths():
  barlow = {"name": "barlow_twins", "redundancy_weight": 0.01}
  apply = {"name": "Apply", "tag": "decorrelation", "loss": barlow, "of": ["projection.0"]}
  contrast = {"name": "Contrast", "tag": "second", "temperature": {"name": "learned"}}
  plan = Plan(block=64)
  spec = METHOD | {"terms": [apply, contrast]}
  first, second = assemble(core.Method, spec, "config.method", given={"plan": plan}).terms
  assert first.loss.keywords["redundancy_weight"] == 0.01 and first.of == ("projection.0",)
  assert second.temperature == temperatures.learned() and second.plan is plan
  said = refused(core.Method, METHOD | {"terms": [contrast | {"temperatur": 1}]}, "config.method")
  assert (
    said == "config.method.terms[0]: Contrast takes no 'temperatur'; did you mean 'temperature'?"
  )
  said = refused(core.Method, METHOD | {"terms": [apply | {"loss": {"name": "barlow"}}]}, "config")
  assert said.startswith("config.terms[0].loss.name: no 'barlow' in losses; did you mean 'barlow_")


def test_infinity_is_read_as_it_is_written():
  learned = assemble(core.Temperature, {"name": "learned", "max_temperature": "inf"}, "temperature")
  assert learned == temperatures.learned()


@pytest.fixture
def mine(tmp_path, monkeypatch):
  """A module of a user's own."""
  (tmp_path / "mine_parts.py").write_text(
    textwrap.dedent("""
    import dataclasses

    from contrastax import encoders, methods
    from contrastax.core import Encoder

    NUMBER = 3

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Mine(methods.SimCLR):
      share: float = 0.5

    def encoder(width: int = 4) -> Encoder:
      return encoders.mlp((width,))

    def wrong() -> int:
      return 3

    def plain(key, x, index):
      return x

    def free(inner):
      return inner
  """)
  )
  (tmp_path / "broken_parts.py").write_text("1 / 0")
  monkeypatch.syspath_prepend(tmp_path)
  yield
  for name in ("mine_parts", "broken_parts"):
    sys.modules.pop(name, None)


def test_a_part_of_ones_own(mine):
  spec = {"name": "mine_parts:encoder", "width": 5}
  assert isinstance(assemble(Encoder, spec, "encoder"), Encoder)
  assert complete(Encoder, {"name": "mine_parts:encoder"}, "encoder") == spec | {"width": 4}
  method = METHOD | {"name": "mine_parts:Mine", "share": 0.25}
  assert assemble(core.Method, method, "method", given={"examples": 7}).examples == 7
  said = refused(core.Method, METHOD | {"name": "mine_parts:Mine", "shaer": 0.25})
  assert said == "config: mine_parts:Mine takes no 'shaer'; did you mean 'share'?"
  recipe = assemble(core.Recipe, "mine_parts:plain", "views")
  assert recipe is sys.modules["mine_parts"].plain
  assert assemble(Encoder, {"name": "from_nnx", "build": "mine_parts:plain"}, "encoder")


OWN = {
  "no module": ({"name": "mine_part:encoder"}, "there is no module 'mine_part'"),
  "broken": ({"name": "broken_parts:encoder"}, "cannot be imported: ZeroDivisionError"),
  "no function": ({"name": "mine_parts:encodr"}, "has no 'encodr'; did you mean 'encoder'?"),
  "argument": ({"name": "mine_parts:encoder", "widht": 3}, "takes no 'widht'; did you mean 'width'?"),
  "type": ({"name": "mine_parts:encoder", "width": "x"}, "config.width must be an integer, not 'x'"),
  "kind": ({"name": "mine_parts:wrong"}, "mine_parts:wrong gives int, not Encoder"),
  "no callable": ({"name": "mine_parts:NUMBER"}, "must be a function or a class, not 3"),
  "no annotation": (
    {"name": "mine_parts:free", "inner": {"name": "mlp"}},
    "config.inner is a part, but its argument has no annotation; annotate the argument",
  ),
  "class": (
    "mine_parts:Mine",
    "config: mine_parts:Mine is a class; write {'name': 'mine_parts:Mine'} with its arguments",
  ),
  "plain": ("mine_parts:NUMBER", "mine_parts:NUMBER gives int, not Encoder"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", OWN)
def test_a_mistake_with_ones_own_part_is_one_line(mine, mistake):
  spec, expected = OWN[mistake]
  assert expected in refused(Encoder, spec)


def test_a_module_is_imported_only_where_it_is_allowed(mine):
  for spec in ({"name": "mine_parts:encoder"}, "mine_parts:encoder"):
    said = refused(Encoder, spec, allow=("other", "mine"))
    assert "pass allow=('mine_parts',), or --allow=mine_parts" in said
  assert "mine_parts" not in sys.modules
  assert assemble(Encoder, {"name": "mine_parts:encoder"}, "encoder", allow=("mine_parts",))
  assert "of encoders" not in refused(Encoder, {"name": "os:system"}, allow=())


def test_nearest_is_a_suggestion_or_the_whole_list():
  assert nearest("sdg", ["sgd", "adamw"]) == "; did you mean 'sgd'?"
  assert nearest("DCL", ["dcl", "info_nce"]) == "; did you mean 'dcl'?"
  assert nearest("qqq", ["sgd", "adamw"]) == "; there are: adamw, sgd"
