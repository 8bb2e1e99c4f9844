"""Terms: the summands of an objective, alone and beside a method's own."""

import dataclasses
import functools
from collections.abc import Mapping

import all_methods
import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

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
from contrastax.core import Encoder, Pairs, UserError, View
from contrastax.negatives import in_batch, queue
from contrastax.networks import Net
from contrastax.pairwise import unit
from contrastax.relations import Relation, same_example
from contrastax.terms import Apply, Contrast, Given, Measured

DIGITS = {name: values[:256] for name, values in data.load("digits").train.items()}
SOURCE = data.Resident(DIGITS, batch_size=32)
PARTS = {
  "encoder": encoders.mlp((16,)),
  "projection": encoders.projection((16,), 8),
  "views": all_methods.noise,
}
KEY = jax.random.key(3)


def dicts(tree):
  """The same, of dicts, which a compiled function can return; those of `seen` are read-only."""
  return {k: dicts(x) for k, x in tree.items()} if isinstance(tree, Mapping) else tree


def ran(method, batch=None):
  """(value, metrics, what the networks returned) of the first step."""
  batch = SOURCE.batch(0) if batch is None else batch
  params, state = jax.jit(method.init)(jax.random.key(0), batch)

  @jax.jit
  def first_step(params, state, batch):
    value, (_, metrics) = method.objective(params, state, batch, KEY)
    return value, metrics, dicts(method.seen(params, state, batch, KEY))

  value, metrics, seen = first_step(params, state, batch)
  return float(value), metrics, seen


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


# A contrast of more than one vector for each example.


def tokens_of(scale):
  """An encoder with three vectors per example, and one of its own."""

  def apply(params, state, x, *, key=None, train):
    flat = scale * x.reshape(len(x), -1)[:, :24]
    return {"embedding": flat[:, :8], "tokens": flat.reshape(len(x), 3, 8)}, state

  return Encoder(lambda key, x: ((), ()), apply)


@dataclasses.dataclass(frozen=True)
class same_token(Relation):
  """Positive: the same place of the same example in another view."""

  def __call__(self, a, c, similarity):
    same = a["index"] == c["index"]
    return Pairs(same & (a["view"] != c["view"]) & (a["place"] == c["place"]), ~same)


def dense(**how):
  return methods.Siamese(
    encoder=tokens_of(1.0),
    views=all_methods.noise,
    terms=(
      Contrast(
        anchors="encoder.tokens", relation=same_token(), temperature=temperatures.fixed(0.5), **how
      ),
    ),
  )


def test_a_call_that_does_not_fit_the_loss_names_how():
  term = Apply(loss=losses.uniformity, of=("z",), tag="spread")
  z = jnp.eye(4)
  with pytest.raises(UserError) as error:
    term((), (), {"z": {0: z, 1: z}}, jax.random.key(0))
  assert "'spread' calls its loss with 2 arrays (how='together')" in str(error.value)
  assert "how='each'" in str(error.value)


def test_each_of_several_vectors_is_an_anchor():
  """InfoNCE of every token, in NumPy."""
  value, metrics, seen = ran(dense())
  z = np.concatenate([np.asarray(seen["encoder"][v]["tokens"]).reshape(-1, 8) for v in (0, 1)])
  z /= np.linalg.norm(z, axis=1, keepdims=True)
  index = np.tile(np.repeat(np.arange(32), 3), 2)
  place = np.tile(np.arange(3), 64)
  logits = z @ z.T / 0.5
  positive = np.arange(192) ^ 0
  positive = (np.arange(192) + 96) % 192
  assert (index[positive] == index).all() and (place[positive] == place).all()
  other = index[:, None] != index
  own = logits[np.arange(192), positive]
  expected = np.log(np.exp(own) + (np.exp(logits) * other).sum(1)) - own
  assert value == pytest.approx(expected.mean(), rel=1e-5)
  assert metrics["negatives"] == 2 * 31 * 3


def test_the_mean_may_leave_out_anchors_without_a_positive():
  @dataclasses.dataclass(frozen=True)
  class first_token(same_token):
    def __call__(self, a, c, similarity):
      found = super().__call__(a, c, similarity)
      return Pairs(found.positive & (a["place"] == 0), found.negative)

  def of(average):
    term = dataclasses.replace(dense().terms[0], relation=first_token(), average=average)
    return ran(dataclasses.replace(dense(), terms=(term,)))[0]

  assert of("with positives") == pytest.approx(3 * of("all"), rel=1e-5)


@pytest.mark.parametrize("average", ["all", "with positives"])
def test_masked_vectors_take_no_part(average):
  """As if they were not there: the value does not depend on them."""

  def method(scale):
    inner = tokens_of(1.0)

    def apply(params, state, x, **how):
      y, state = inner.apply(params, state, x, **how)
      mask = jnp.arange(3) < 2
      tokens = jnp.where(mask[:, None], y["tokens"], scale * y["tokens"][..., ::-1] + scale)
      return {**y, "tokens": tokens, "mask": jnp.broadcast_to(mask, (len(x), 3))}, state

    term = dataclasses.replace(dense().terms[0], mask="encoder.mask", average=average)
    return dataclasses.replace(dense(), encoder=Encoder(inner.init, apply), terms=(term,))

  assert ran(method(1.0))[0] == pytest.approx(ran(method(-3.0))[0], rel=1e-6)


def test_vectors_of_one_example_have_rows_of_their_own():
  """With rows=3 every place has its own temperature; with rows=1 those of an example share one."""
  for rows in (1, 3):
    term = dataclasses.replace(
      dense().terms[0], temperature=temperatures.individual(0.5), loss=criteria.sogclr(), rows=rows
    )
    method = dataclasses.replace(dense(), terms=(term,), examples=256)
    state = training.init(method, optax.sgd(0.1), SOURCE.batch(0))
    state, _ = training.make_train_step(method, optax.sgd(0.1))(state, SOURCE.batch(0))
    index = np.asarray(SOURCE.batch(0)["index"])
    tau = term.temperature.each(state.state["terms"]["contrast"]["temperature"])
    tau = np.asarray(tau).reshape(rows, 256)
    assert (tau[:, index] != 0.5).all()
    assert (np.delete(tau, index, axis=1) == 0.5).all()
    if rows == 3:
      assert (tau[0, index] != tau[1, index]).all()


def test_sides_of_views_reach_the_relation():
  """A recipe's side is what a relation reads, by its view."""
  seen_sides = []

  def recipe(key, x, index):
    return View(all_methods.noise(key, x, index), {"number": index * 10})

  @dataclasses.dataclass(frozen=True)
  class reads(Relation):
    def __call__(self, a, c, similarity):
      seen_sides.append(set(a))
      return Pairs(
        (a["number"] == c["number"]) & (a["view"] != c["view"]), a["index"] != c["index"]
      )

  term = Contrast(sides=("number",), relation=reads(), temperature=temperatures.fixed(0.2))
  given = {**PARTS, "views": recipe}
  value, _, _ = ran(methods.Siamese(**given, terms=(term,)))
  plain, _, _ = ran(methods.SimCLR(**PARTS, temperature=temperatures.fixed(0.2)))
  assert value == pytest.approx(plain, rel=1e-6)
  assert all("number" in names for names in seen_sides)
  missing = dataclasses.replace(term, sides=("box",))
  with pytest.raises(UserError, match="sides: neither view 0 nor the batch has 'box'"):
    ran(methods.Siamese(**given, terms=(missing,)))


def test_an_example_of_weight_zero_is_no_candidate():
  """The data's array `weight` multiplies both weights of a key, in the batch and in a queue."""
  weight = np.ones(256, np.float32)
  weight[np.asarray(SOURCE.batch(0)["index"])[:4]] = 0
  weighted = data.Resident({**DIGITS, "weight": weight}, batch_size=32)
  for negatives in (in_batch(), in_batch() + queue(128)):
    method = methods.SimCLR(**PARTS, negatives=negatives)
    _, metrics, _ = ran(method, weighted.batch(0))
    # Of 31 other examples 4 are left out, or 3 for these themselves; they count as 0 negatives.
    assert metrics["negatives"] == pytest.approx((28 * 2 * 27 + 4 * 2 * 28) / 32)


# Given negatives.


def pairs(**how):
  return methods.Pairs(
    encoder=encoders.mlp((16,)), projection=encoders.projection((16,), 8),
    inputs=("x", "y"), temperature=temperatures.fixed(0.3), **how,
  )  # fmt: skip


def pair_batch():
  draw = np.random.default_rng(0)
  fields = {name: jnp.asarray(draw.normal(size=(6, 5)), jnp.float32) for name in ("x", "y")}
  negative = jnp.asarray(draw.normal(size=(6, 2, 5)), jnp.float32)
  own = jnp.asarray([[1, 7], [2, 8], [3, 9], [4, 10], [5, 11], [0, -1]], jnp.int32)
  return {**fields, "hard": negative, "hard_index": own, "index": jnp.arange(6)}


@pytest.mark.parametrize("per_anchor", [False, True])
@pytest.mark.parametrize("known", [False, True])
def test_pairs_with_given_negatives_in_numpy(per_anchor, known):
  method = pairs(
    negative="hard", negative_index="hard_index" if known else None, per_anchor=per_anchor
  )
  value, _, seen = ran(method, pair_batch())
  a, p = (np.asarray(seen[name][v]) for name, v in (("anchor", 0), ("positive", 1)))
  hard = np.asarray(seen["negative"])
  cosine = lambda x, y: np.asarray(unit(x) @ unit(y).T) / 0.3  # noqa: E731
  to_keys, to_hard = cosine(a, p), cosine(a, hard.reshape(12, -1))
  counted = np.ones((6, 12), bool)
  if per_anchor:
    counted = np.repeat(np.eye(6, dtype=bool), 2, axis=1)
  if known:
    index = np.asarray(pair_batch()["hard_index"]).reshape(-1)
    counted &= (index != np.arange(6)[:, None]) & (index >= 0)
  total = np.exp(to_keys).sum(1) + (np.exp(to_hard) * counted).sum(1)
  expected = (np.log(total) - np.diag(to_keys)).mean()
  assert value == pytest.approx(expected, rel=1e-5)


def test_one_anchor_has_k_positives():
  batch = {**pair_batch(), "y": jnp.stack([pair_batch()["y"], pair_batch()["x"]], 1)}
  value, metrics, seen = ran(pairs(positives=2), batch)
  a = np.asarray(seen["anchor"][0])
  p = np.concatenate([np.asarray(seen["positive"][v]) for v in (1, 2)])
  logits = np.asarray(unit(a) @ unit(p).T) / 0.3
  own = np.stack([logits[np.arange(6), np.arange(6)], logits[np.arange(6), 6 + np.arange(6)]])
  expected = np.log(np.exp(logits).sum(1)) - own.mean(0)
  assert value == pytest.approx(expected.mean(), rel=1e-5)
  assert metrics["negatives"] == 10


def test_two_towers_have_parameters_of_their_own():
  method = pairs(other_encoder=encoders.mlp((16,)), other_projection=encoders.projection((16,), 8))
  params, _ = jax.jit(method.init)(jax.random.key(0), pair_batch())
  assert {"encoder", "projection", "other_encoder", "other_projection"} <= set(params)
  with pytest.raises(UserError, match="other_projection needs other_encoder"):
    pairs(other_projection=encoders.projection())


def test_given_vectors_of_one_for_each_example():
  term = Contrast(
    anchors="z.0", keys="z.1", given=(Given("z.2"),), temperature=temperatures.fixed(0.3)
  )
  towers = tuple(
    methods.Tower(tag=name, input=name, encoder=encoders.mlp((8,))) for name in ("x", "y", "w")
  )
  batch = {**pair_batch(), "w": pair_batch()["hard"][:, 0]}
  value, metrics, _ = ran(methods.Towers(towers=towers, terms=(term,)), batch)
  assert np.isfinite(value) and metrics["negatives"] == 5 + 6


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
