"""Terms: the summands of an objective, alone and beside a method's own."""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from first_steps import DIGITS, KEY, PARTS, SOURCE, ran

from contrastax import (
  core,
  criteria,
  data,
  encoders,
  losses,
  methods,
  parts,
  schedules,
  temperatures,
  training,
)
from contrastax.core import Encoder, UserError
from contrastax.negatives import in_batch, queue
from contrastax.networks import Net
from contrastax.relations import same_example
from contrastax.terms import Apply, Contrast, Measured


@pytest.mark.parametrize("kind", [methods.SimCLR, methods.BarlowTwins])
def test_an_objective_is_the_sum_of_its_weighted_terms(kind):
  term = Apply(loss=losses.uniformity, of=("projection",), how="joined", weight=0.25, tag="spread")
  alone, metrics, _ = ran(kind(**PARTS))
  value, more, seen = ran(kind(**PARTS, terms=(term,)))
  z = jnp.concatenate(list(seen["projection"].values()))
  np.testing.assert_allclose(value, alone + 0.25 * losses.uniformity(z).mean(), rtol=1e-5)
  np.testing.assert_allclose(more["spread"], losses.uniformity(z).mean(), rtol=1e-5)
  np.testing.assert_allclose(more["objective"], value, rtol=1e-6)
  for name, found in metrics.items():  # the method's own are as they were
    np.testing.assert_allclose(more[name], found, rtol=1e-5, err_msg=name)


def test_siamese_with_a_contrast_is_simclr():
  """Also its parameters and random keys: after three steps they are equal."""
  tempered = temperatures.learned(0.2)
  ends = []
  for method in (
    methods.SimCLR(**PARTS, temperature=tempered),
    methods.Siamese(**PARTS, terms=(Contrast(temperature=tempered),)),
  ):
    state = training.init(method, optax.sgd(0.1), SOURCE.batch(0))
    step = training.make_train_step(method, optax.sgd(0.1))
    for t in range(3):
      state, metrics = step(state, SOURCE.batch(t))
    ends.append((state.params, metrics["loss"], metrics["temperature"]))
  chex.assert_trees_all_equal(*ends)


def test_siamese_with_a_predictor_is_byol():
  def byol(p0, p1, z0, z1):
    return 4 + 2 * losses.negative_cosine(p0, z1) + 2 * losses.negative_cosine(p1, z0)

  given = {**PARTS, "predictor": encoders.projection((8,), 8), "momentum": 0.9}
  term = Apply(loss=byol, of=("predictor", "target.projection"))
  expected, _, _ = ran(methods.BYOL(**given))
  assert ran(methods.Siamese(**given, terms=(term,)))[0] == pytest.approx(expected, rel=1e-6)


def test_a_weight_may_be_a_schedule_of_the_step():
  weight = schedules.linear(start=0.0, end=1.0, steps=4)
  term = Apply(loss=losses.uniformity, of=("projection",), how="joined", weight=weight, tag="u")
  method = methods.SimCLR(**PARTS, terms=(term,))
  state = training.init(method, optax.sgd(0.0), SOURCE.batch(0))
  step = training.make_train_step(method, optax.sgd(0.0))
  for t in range(5):
    state, metrics = step(state, SOURCE.batch(t))
    extra = float(metrics["objective"] - metrics["loss"])
    assert extra == pytest.approx(t / 4 * float(metrics["u"]), abs=1e-5)


# Losses on arrays that no method takes, each trained as a term.

LABELS = "batch.label"
OF_TWO = {
  "alignment": {}, "barlow_twins": {}, "spectral": {}, "vicreg": {}, "w_mse": {"slices": 2},
  "clip": {"temperature": 0.2}, "dcl": {"temperature": 0.2}, "dclw": {"temperature": 0.2},
  "debiased": {"temperature": 0.2, "tau_plus": 0.1}, "dhel": {"temperature": 0.2},
  "dual_temperature": {"temperature": 0.2, "inter_temperature": 1.0},
  "group_ordering": {}, "hard_negative": {"temperature": 0.2, "tau_plus": 0.1, "beta": 0.5},
  "hard_quantile": {"temperature": 0.2, "alpha": 0.2}, "info_nce": {"temperature": 0.2},
  "n_pairs": {}, "nt_xent": {"temperature": 0.2}, "rince": {"temperature": 0.2},
  "siglip": {"temperature": 0.2, "bias": -3.0}, "negative_cosine": {},
}  # fmt: skip
OF_ONE = {"koleo": {}, "uniformity": {}}
OF_LABELS = {
  "circle": {"scale": 8.0}, "multi_similarity": {}, "soft_nearest_neighbor": {"temperature": 0.5},
  "sup_con": {"temperature": 0.2}, "sup_con_in": {"temperature": 0.2}, "triplet": {"margin": 0.2},
}  # fmt: skip
OF_VIEWS = {
  "cacr": {}, "mv_dhel": {"temperature": 0.2}, "mv_info_nce": {"temperature": 0.2},
  "poly_view": {"temperature": 0.2},
}  # fmt: skip


def bound(name, arguments):
  return (
    functools.partial(getattr(losses, name), **arguments) if arguments else getattr(losses, name)
  )


TRAINABLE = {
  name: Apply(loss=bound(name, arguments), of=("projection",), **how)
  for kind, how in (
    (OF_TWO, {}),
    (OF_ONE, {"how": "each"}),
    (OF_LABELS, {"how": "joined", "labels": LABELS}),
    (OF_VIEWS, {"how": "stacked"}),
  )
  for name, arguments in kind.items()
}


@pytest.mark.parametrize("name", TRAINABLE)
def test_a_loss_on_arrays_is_trained_as_a_term(name):
  method = methods.Siamese(**PARTS, terms=(TRAINABLE[name],))
  source, optimizer = data.Resident(DIGITS, batch_size=64), optax.adam(3e-3)
  state = training.init(method, optimizer, source.batch(0))
  step = training.make_train_step(method, optimizer)
  found = []
  for t in range(24):
    state, metrics = step(state, source.batch(t))
    found.append(float(metrics["loss"]))
  assert np.isfinite(found).all()
  assert np.mean(found[-4:]) < np.mean(found[:4]), found


@dataclasses.dataclass(frozen=True, kw_only=True)
class Proxies(Measured):
  """ArcFace with learned proxies of the classes."""

  classes: int
  weight: float = 1.0
  tag: str = "proxies"

  def measure(self, net, seen):
    z = seen["projection"][0]
    shape = (self.classes, z.shape[-1])
    proxies = net.param("proxies", lambda: jax.random.normal(net.key, shape))
    return losses.arcface(z, seen["batch"]["label"], proxies, scale=8.0), {}


def test_proxies_are_parameters_of_their_term():
  method = methods.Siamese(**PARTS, terms=(Proxies(classes=10),))
  state = training.init(method, optax.adam(1e-2), SOURCE.batch(0))
  assert state.params["terms"]["proxies"]["proxies"].shape == (10, 8)
  step, found = training.make_train_step(method, optax.adam(1e-2)), []
  for t in range(24):
    state, metrics = step(state, SOURCE.batch(t))
    found.append(float(metrics["loss"]))
  assert np.mean(found[-4:]) < np.mean(found[:4])


def test_a_criterion_is_no_loss_on_arrays():
  with pytest.raises(UserError, match="loss must be a loss on arrays, such as losses.barlow_twins"):
    Apply(loss=criteria.dcl(), of=("projection",))


# Terms with networks of their own.


@dataclasses.dataclass(frozen=True, kw_only=True)
class Follows(Measured):
  """A head and its moving average, apart by a mean square."""

  head: Encoder = encoders.projection((8,), 4)
  momentum: float = 0.5
  weight: float = 1.0
  tag: str = "follows"

  def measure(self, net: Net, seen):
    z = seen["projection"]
    return jnp.square(net("head", z)[0] - net.target("head", z)[1]).mean(), {}


def test_a_moving_average_in_a_term_follows():
  method = methods.SimCLR(**PARTS, terms=(Follows(),))
  params, state = jax.jit(method.init)(jax.random.key(0), SOURCE.batch(0))
  moved = jax.tree.map(lambda p: p + 1, params)
  after = jax.jit(method.advance)(moved, state, jnp.int32(0))
  old, new = (x["terms"]["follows"]["head"] for x in (params, moved))
  expected = jax.tree.map(lambda a, b: (a + b) / 2, old, new)
  found = after["terms"]["follows"]["target"]["params"]["head"]
  chex.assert_trees_all_close(found, expected, rtol=1e-6, atol=1e-6)
  objective = jax.grad(lambda p: method.objective(p, state, SOURCE.batch(0), KEY)[0])
  gradient = jax.jit(objective)(params)
  assert any(np.asarray(leaf).any() for leaf in jax.tree.leaves(gradient["terms"]["follows"]))


def test_two_contrasts_keep_negatives_of_their_own():
  further = Contrast(
    anchors="encoder", negatives=in_batch() + queue(128), temperature=temperatures.fixed(0.2),
    tag="second",
  )  # fmt: skip
  method = methods.SimCLR(**PARTS, negatives=in_batch() + queue(64), terms=(further,))
  state = training.init(method, optax.sgd(0.1), SOURCE.batch(0))
  step = training.make_train_step(method, optax.sgd(0.1))
  for t in range(2):
    state, metrics = step(state, SOURCE.batch(t))
  sizes = [
    len(state.state["terms"][tag]["negatives"][1]["keys"].vectors) for tag in ("contrast", "second")
  ]
  assert sizes == [64, 128]
  assert metrics["negatives"] != metrics["second/negatives"] or metrics["second/negatives"] > 62


@pytest.mark.parametrize(
  ("changed", "message"),
  [
    (
      {"loss": losses.dcl},
      r"loss must be a criterion, such as criteria.dcl\(…\), not the function dcl",
    ),
    (
      {"loss": criteria.dcl},
      r"loss must be a criterion, such as criteria.dcl\(…\), not the class dcl",
    ),
    ({"temperature": "0.5"}, r"temperature must be a core.Temperature, such as temperatures.fixed"),
    ({"temperature": True}, r"temperature must be a core.Temperature, .* not True"),
    ({"temperature": -0.5}, r"a temperature must be a number above 0, not -0.5"),
    ({"score": "cosine"}, r"score must be a core.Score, such as pairwise.cosine\(\), not 'cosine'"),
    ({"negatives": 64}, r"negatives must be a core.Negatives, such as negatives.in_batch\(\)"),
    ({"relation": same_example}, r"same_example is a class; give an instance, same_example\(\)"),
    ({"encoder": encoders.mlp}, r"encoder must be a core.Encoder, such as encoders.mlp\(\(64,\)\)"),
    ({"terms": [Contrast(tag="x")]}, r"terms must be a tuple of terms, such as \(Apply"),
    ({"temperature": temperatures.learned(bias=-1.0)}, r"a bias has no effect on a softmax"),
  ],
)
def test_a_part_of_a_wrong_kind_is_refused_where_the_method_is_built(changed, message):
  with pytest.raises(UserError, match=message) as error:
    methods.SimCLR(**{**PARTS, **changed})
  assert "\n" not in str(error.value)


@pytest.mark.parametrize("number", [0.25, 1])
def test_a_number_is_a_fixed_temperature(number):
  expected = temperatures.fixed(float(number))
  assert Contrast(temperature=number) == Contrast(temperature=expected)
  for make in (methods.SimCLR, methods.Multiview):
    assert make(**PARTS, temperature=number) == make(**PARTS, temperature=expected)


def test_a_number_is_a_fixed_temperature_in_a_config():
  head = {"name": "mlp", "widths": (8,)}
  spec = {"name": "SimCLR", "encoder": head, "projection": head, "views": {"name": "unchanged"}}
  method = parts.assemble(core.Method, {**spec, "temperature": 0.25}, "config.method")
  assert method.temperature == method.main.temperature == temperatures.fixed(0.25)
  term = parts.assemble(core.Term, {"name": "Contrast", "temperature": 1}, "config.term")
  assert term.temperature == temperatures.fixed(1)
  complete = parts.complete(core.Method, {**spec, "temperature": 0.25}, "config.method")
  assert parts.complete(core.Method, complete, "config.method") == complete


def test_a_path_of_nothing_is_one_line_at_initialization():
  method = methods.Siamese(**PARTS, terms=(Contrast(anchors="projektion"),))
  with pytest.raises(
    UserError, match="the path 'projektion' names nothing.* did you mean 'projection'"
  ):
    training.init(method, optax.sgd(0.1), SOURCE.batch(0))
