"""Optimizers: the schedule, the update and what decays, each against its formula."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from contrastax import core, encoders, schedules
from contrastax.core import UserError
from contrastax.nouns import NOUNS, parts_of
from contrastax.parts import assemble
from contrastax.training.optimizers import adamw, lamb, lars, sgd
from contrastax.training.optimizers import muon as two_rates

PARAMS = {
  "encoder": {
    "layers": {
      "0": {"kernel": np.array([[1.0, -2.0], [0.5, 3.0]])},
      "1": {"scale": np.array([1.5, -0.5]), "bias": np.array([0.25, 2.0])},
    }
  },
  "projection": {"out": {"kernel": np.array([[0.3], [-0.7]]), "bias": np.array([-1.0])}},
}
GRADIENT = jax.tree.map(lambda p: 0.1 * np.sin(5 * p) + 0.02, PARAMS)


def muon(learning_rate, **arguments):
  """Muon with one learning rate for all parameters."""
  return two_rates(learning_rate=learning_rate, adamw_learning_rate=learning_rate, **arguments)


ALL = [sgd, adamw, lars, lamb, muon]


def leaves(tree):
  return {
    "/".join(entry.key for entry in path): np.asarray(leaf)
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
  }


def trained(optimizer, params, gradients):
  """The parameters after each of the gradients, in float64."""

  @jax.jit
  def step(gradient, state, params):
    updates, state = optimizer.update(gradient, state, params)
    return optax.apply_updates(params, updates), state

  with jax.enable_x64(True):
    params = jax.tree.map(jnp.asarray, params)
    state = jax.jit(optimizer.init)(params)
    history = []
    for gradient in gradients:
      params, state = step(gradient, state, params)
      history.append(leaves(params))
  return history


def rates(optimizer, steps):
  """The learning rate of each step: what plain SGD moves by at a gradient of −1."""
  params = {"kernel": jnp.zeros(())}

  def step(carry, _):
    params, state = carry
    updates, state = optimizer.update({"kernel": -jnp.ones(())}, state, params)
    return (optax.apply_updates(params, updates), state), updates["kernel"]

  _, moved = jax.lax.scan(step, (params, optimizer.init(params)), length=steps)
  return np.asarray(moved)


def test_the_learning_rate_rises_in_a_line_and_falls_as_a_cosine():
  found = rates(sgd(steps=100, learning_rate=0.4, warmup=20, momentum=0.0), 101)
  assert found[0] == 0
  np.testing.assert_allclose(found[5], 0.1, rtol=1e-5)
  np.testing.assert_allclose(found[10], 0.2, rtol=1e-5)
  np.testing.assert_allclose(found[20], 0.4, rtol=1e-5)
  np.testing.assert_allclose(found[60], 0.2, rtol=1e-5)  # half-way down
  np.testing.assert_allclose(found[40], 0.2 * (1 + np.cos(np.pi / 4)), rtol=1e-5)
  assert 0 < found[99] < 0.4 * 1e-3
  np.testing.assert_allclose(found[100], 0, atol=1e-7)
  assert (np.diff(found[:21]) > 0).all() and (np.diff(found[20:]) < 0).all()


def test_without_warmup_the_first_step_has_the_whole_learning_rate():
  found = rates(sgd(steps=10, learning_rate=0.4, momentum=0.0), 10)
  np.testing.assert_allclose(found, 0.2 * (1 + np.cos(np.pi * np.arange(10) / 10)), rtol=1e-5)


def test_adamw_follows_the_same_schedule():
  # At a constant gradient Adam's direction is 1, so each step moves by the learning rate.
  found = rates(adamw(steps=100, learning_rate=0.4, warmup=20), 100)
  expected = rates(sgd(steps=100, learning_rate=0.4, warmup=20, momentum=0.0), 100)
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_sgd_is_its_formula():
  rate, momentum, decay = 0.2, 0.8, 0.05
  optimizer = sgd(steps=1000000, learning_rate=rate, momentum=momentum, weight_decay=decay)
  gradients = [GRADIENT, jax.tree.map(lambda g: -0.5 * g + 0.01, GRADIENT)]
  found = trained(optimizer, PARAMS, gradients)
  for name, p in leaves(PARAMS).items():
    buffer = 0.0
    for step, gradient in enumerate(gradients):
      g = leaves(gradient)[name] + (decay * p if name.endswith("kernel") else 0)
      buffer = momentum * buffer + g
      p = p - rate * buffer
      np.testing.assert_allclose(found[step][name], p, rtol=1e-6)


def test_adamw_is_its_formula():
  rate, decay = 0.02, 0.1
  optimizer = adamw(steps=1000000, learning_rate=rate, weight_decay=decay)
  gradients = [GRADIENT, jax.tree.map(lambda g: -0.5 * g + 0.01, GRADIENT)]
  found = trained(optimizer, PARAMS, gradients)
  for name, p in leaves(PARAMS).items():
    m = v = 0.0
    for step, gradient in enumerate(gradients):
      g = leaves(gradient)[name]
      m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
      m_hat, v_hat = m / (1 - 0.9 ** (step + 1)), v / (1 - 0.999 ** (step + 1))
      shrink = decay * p if name.endswith("kernel") else 0
      p = p - rate * (m_hat / (np.sqrt(v_hat) + 1e-8) + shrink)
      np.testing.assert_allclose(found[step][name], p, rtol=1e-6)


def test_lars_is_its_formula_with_the_rate_inside_the_momentum():
  steps, rate, momentum, decay, trust = 10, 0.2, 0.8, 0.05, 0.01
  optimizer = lars(
    steps=steps, learning_rate=rate, momentum=momentum, weight_decay=decay, trust_coefficient=trust
  )
  gradients = [GRADIENT, jax.tree.map(lambda g: -0.5 * g + 0.01, GRADIENT)]
  found = trained(optimizer, PARAMS, gradients)
  for name, p in leaves(PARAMS).items():
    buffer = 0.0
    for step, gradient in enumerate(gradients):
      g = leaves(gradient)[name]
      if name.endswith("kernel"):
        g = g + decay * p
        g = g * trust * np.sqrt((p**2).sum()) / np.sqrt((g**2).sum())
      buffer = momentum * buffer + rate * (1 + np.cos(np.pi * step / steps)) / 2 * g
      p = p - buffer
      np.testing.assert_allclose(found[step][name], p, rtol=1e-6)


def test_lars_neither_decays_nor_adapts_biases_and_scales():
  optimizer = lars(steps=1000, learning_rate=0.1, weight_decay=0.5)
  plain = sgd(steps=1000, learning_rate=0.1)
  (after,), (sgd_after,) = (trained(o, PARAMS, [GRADIENT]) for o in (optimizer, plain))
  for name in leaves(PARAMS):
    same = np.allclose(after[name], sgd_after[name], rtol=1e-6)
    assert same == (not name.endswith("kernel")), name


def test_lars_takes_sgds_step_where_a_norm_is_0():
  params, gradient = {"kernel": np.zeros(3)}, {"kernel": np.array([1.0, -2.0, 0.5])}
  (after,) = trained(lars(steps=1000, learning_rate=0.1), params, [gradient])
  np.testing.assert_allclose(after["kernel"], -0.1 * gradient["kernel"], rtol=1e-6)
  (still,) = trained(lars(steps=1000, learning_rate=0.1), gradient, [params])
  np.testing.assert_array_equal(still["kernel"], gradient["kernel"])


@pytest.mark.parametrize("make", [sgd, adamw, muon])
def test_kernels_decay_and_biases_and_scales_do_not(make):
  optimizer = make(steps=1000, learning_rate=0.1, weight_decay=0.5)
  nothing = jax.tree.map(np.zeros_like, PARAMS)
  (after,) = trained(optimizer, PARAMS, [nothing])
  for name, before in leaves(PARAMS).items():
    kept = 0.95 if name.endswith("kernel") else 1.0
    np.testing.assert_allclose(after[name], kept * before, rtol=1e-6, err_msg=name)


@pytest.mark.parametrize("make", [sgd, adamw, muon])
def test_the_first_rule_that_matches_counts(make):
  rules = (("^projection/", "no decay"), ("(^|/)(kernel|bias)$", "decay"), ("", "no decay"))
  optimizer = make(steps=1000, learning_rate=0.1, weight_decay=0.5, rules=rules)
  (after,) = trained(optimizer, PARAMS, [jax.tree.map(np.zeros_like, PARAMS)])
  decayed = {name for name, before in leaves(PARAMS).items() if (after[name] != before).all()}
  assert decayed == {"encoder/layers/0/kernel", "encoder/layers/1/bias"}


@pytest.mark.parametrize("make", ALL)
def test_a_parameter_that_no_rule_matches_is_named_with_a_rule_for_it(make):
  params = {**PARAMS, "head": {"gain": np.ones(2)}}
  with pytest.raises(UserError) as error:
    make(steps=10, learning_rate=0.1).init(params)
  assert str(error.value) == (
    "no optimizer rule matches the parameter head/gain; "
    "add one to rules, such as ('(^|/)gain$', 'decay')"
  )
  rules = (("(^|/)(kernel|bias|scale)$", "decay"), ("(^|/)gain$", "decay"))
  make(steps=10, learning_rate=0.1, rules=rules).init(params)


ENCODERS = {
  "convnet": {"widths": (4, 8)}, "mlp": {"widths": (4,)}, "projection": {"norm_out": True},
  "prototypes": {"count": 3}, "resnet": {"depth": 8, "width": 4},
  "vit": {"width": 8, "depth": 1, "heads": 2, "patch": 4, "positions": "learned", "registers": 1,
          "layer_scale": 0.1},
}  # fmt: skip
OTHER_ENCODERS = {  # of other encoders, but for text, which takes integers
  "text", "chunked", "frozen", "per_token", "pretrained", "from_linen", "from_nnx",
}  # fmt: skip
SCORES = {
  "multi_head": {"heads": 2}, "adaptive_heads": {"heads": 2}, "multilinear": {"parts": 1},
  "side_by_side": {"first": {"name": "dot"}, "second": {"name": "cosine"}, "d": 4},
}  # fmt: skip
TEMPERATURES = {
  "fixed": {"temperature": 0.1}, "learned": {"bias": -10.0},
  "scheduled": {"schedule": {"name": "cycle", "high": 1.0, "low": 0.1, "period": 9}},
}  # fmt: skip


@pytest.fixture(scope="module")
def all_parameters():
  """Ones for the parameters of every encoder, score and temperature, where a method has them."""
  assert parts_of(NOUNS["Encoder"]).keys() == ENCODERS.keys() | OTHER_ENCODERS

  def drawn(key):
    params, terms = {}, {}
    for name, arguments in ENCODERS.items():
      encoder = assemble(core.Encoder, {"name": name, **arguments}, "encoder")
      x = jnp.zeros((2, 4)) if name in ("prototypes", "projection") else jnp.zeros((2, 8, 8, 3))
      params[name] = encoder.init(key, x)[0]
    pooled = encoders.vit(8, 1, 2, patch=4, pool="attention", freeze_patches=False)
    params["pooled"] = pooled.init(key, jnp.zeros((2, 8, 8, 3)))[0]
    params["text"] = encoders.text(8, 1, 2).init(key, jnp.zeros((2, 5), jnp.uint8))[0]
    for name in parts_of(NOUNS["Score"]):
      score = assemble(core.Score, {"name": name, **SCORES.get(name, {})}, "score")
      terms[name] = {"score": score.init(key, 8)}
    for name in parts_of(NOUNS["Temperature"]):
      spec = {"name": name, **TEMPERATURES.get(name, {})}
      temperature = assemble(core.Temperature, spec, "temperature")
      terms[name] = {"temperature": temperature.init(3)[0]}
    terms["mlm"] = {"embedding": jnp.ones((3, 2)), "mask_token": jnp.ones(2)}
    return params | {"terms": terms}

  shapes = jax.eval_shape(drawn, jax.random.key(0))
  return jax.tree.map(lambda leaf: np.ones(leaf.shape, leaf.dtype), shapes)


def test_the_rules_cover_every_parameter_that_a_part_can_have(all_parameters):
  optimizer = sgd(steps=1000, learning_rate=0.1, weight_decay=0.5)
  (after,) = trained(optimizer, all_parameters, [jax.tree.map(np.zeros_like, all_parameters)])
  decayed = {name.split("/")[-1] for name, value in after.items() if (value != 1).all()}
  kept = {name.split("/")[-1] for name, value in after.items() if (value == 1).all()}
  assert decayed == {"kernel", "score", "first", "second"}
  assert {"bias", "scale", "log_scale", "tokens", "pos_embed", "embedding", "mask_token"} <= kept


@pytest.mark.parametrize("make", ALL)
def test_a_name_that_only_contains_kernel_is_no_kernel(make):
  with pytest.raises(UserError, match="no optimizer rule matches the parameter head/kernel_size"):
    make(steps=10, learning_rate=0.1).init({"head": {"kernel_size": np.ones(2)}})


@pytest.mark.parametrize("make", ALL)
def test_an_unknown_word_in_a_rule_is_refused(make):
  expected = "optimizer rule 'kernel': 'decays' is neither 'decay' nor 'no decay'"
  with pytest.raises(UserError, match=expected):
    make(steps=10, learning_rate=0.1, rules=(("kernel", "decays"), ("", "no decay")))


@pytest.mark.parametrize("make", ALL)
@pytest.mark.parametrize("warmup", [-1, 10, 11])
def test_a_warmup_as_long_as_the_run_is_refused(make, warmup):
  expected = f"warmup must be at least 0 and below the run's 10 steps, not {warmup}"
  with pytest.raises(UserError, match=expected):
    make(steps=10, learning_rate=0.1, warmup=warmup)
  make(steps=10, learning_rate=0.1, warmup=9)


@pytest.mark.parametrize("make", ALL)
def test_a_run_without_steps_is_refused(make):
  with pytest.raises(UserError, match="steps must be at least 1, not 0"):
    make(steps=0, learning_rate=0.1)


def test_a_predictors_rate_stays_while_the_others_fall():
  """SimSiam: with a gradient of 1 and no momentum each step is the rate itself."""
  params = {"encoder": {"kernel": jnp.zeros(())}, "predictor": {"kernel": jnp.zeros(())}}
  optimizer = sgd(steps=10, learning_rate=0.5, momentum=0.0, constant="^predictor/")
  state, taken = optimizer.init(params), []
  for _ in range(11):
    updates, state = optimizer.update(jax.tree.map(jnp.ones_like, params), state, params)
    taken.append([-float(updates[name]["kernel"]) for name in ("encoder", "predictor")])
  encoder, predictor = np.array(taken).T
  np.testing.assert_allclose(predictor, 0.5)
  np.testing.assert_allclose(encoder, 0.25 * (1 + np.cos(np.pi * np.arange(11) / 10)), atol=1e-7)


def test_a_constant_rate_for_no_parameter_is_refused():
  optimizer = sgd(steps=10, learning_rate=0.5, constant="^predicter/")
  with pytest.raises(UserError, match="constant='\\^predicter/' matches no parameter"):
    optimizer.init({"encoder": {"kernel": jnp.zeros(())}})


def test_lamb_is_its_formula():
  rate, decay = 0.02, 0.1
  optimizer = lamb(steps=1000000, learning_rate=rate, weight_decay=decay)
  gradients = [GRADIENT, jax.tree.map(lambda g: -0.5 * g + 0.01, GRADIENT)]
  found = trained(optimizer, PARAMS, gradients)
  for name, p in leaves(PARAMS).items():
    m = v = 0.0
    for step, gradient in enumerate(gradients):
      g = leaves(gradient)[name]
      m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
      m_hat, v_hat = m / (1 - 0.9 ** (step + 1)), v / (1 - 0.999 ** (step + 1))
      u = m_hat / (np.sqrt(v_hat) + 1e-6)
      if name.endswith("kernel"):
        u = u + decay * p
        u = u * np.sqrt((p**2).sum() / (u**2).sum())
      p = p - rate * u
      np.testing.assert_allclose(found[step][name], p, rtol=1e-6)


@pytest.mark.parametrize("shape", [(6, 4), (3, 5), (3, 3, 2, 8)])
def test_muons_update_of_a_kernel_has_equal_singular_values(shape):
  """Five steps of Newton and Schulz bring the singular values near 1, the vectors stay."""
  gradient = np.random.default_rng(0).standard_normal(shape)
  params = {"kernel": np.zeros(shape)}
  (after,) = trained(muon(0.5, steps=1000000), params, [{"kernel": gradient}])
  rows, columns = math.prod(shape[:-1]), shape[-1]
  u, _, v = np.linalg.svd(gradient.reshape(rows, columns), full_matrices=False)
  scale = 0.5 * math.sqrt(max(1, columns / rows))
  found = -u.T @ after["kernel"].reshape(rows, columns) @ v.T / scale
  np.testing.assert_allclose(np.diag(found), 1, atol=0.35)
  np.testing.assert_allclose(found - np.diag(np.diag(found)), 0, atol=1e-4)


def test_muon_leaves_all_but_kernels_to_adamw():
  arguments = {"steps": 1000, "weight_decay": 0.1}
  params = {**PARAMS, "cls_token": np.ones((1, 2, 3))}
  gradient = {**GRADIENT, "cls_token": np.linspace(-1, 1, 6).reshape(1, 2, 3)}
  (found,) = trained(
    two_rates(learning_rate=0.5, adamw_learning_rate=0.01, **arguments), params, [gradient]
  )
  (adam,) = trained(adamw(learning_rate=0.01, **arguments), params, [gradient])
  for name in leaves(params):
    same = np.allclose(found[name], adam[name], rtol=1e-12)
    assert same == (not name.endswith("kernel")), name


@pytest.mark.parametrize("make", ALL)
def test_a_long_gradient_is_clipped_to_the_given_norm(make):
  """A step with a clipped gradient is the step of the gradient scaled to that norm."""
  arguments = {"steps": 1000, "learning_rate": 0.1, "weight_decay": 0.1}
  norm = math.sqrt(sum((g**2).sum() for g in leaves(GRADIENT).values()))
  shorter = jax.tree.map(lambda g: g * (0.25 * norm) / norm, GRADIENT)
  found = trained(make(**arguments, clip=0.25 * norm), PARAMS, [GRADIENT, shorter])
  expected = trained(make(**arguments), PARAMS, [shorter, shorter])
  for name in leaves(PARAMS):
    np.testing.assert_allclose(found[1][name], expected[1][name], rtol=1e-6)


@pytest.mark.parametrize("clip", [0, -1.0, math.nan, math.inf])
def test_a_norm_to_clip_to_is_positive(clip):
  with pytest.raises(UserError, match="clip must be above 0 and finite, not"):
    sgd(steps=10, learning_rate=0.1, clip=clip)


@pytest.mark.parametrize("make", ALL)
def test_a_schedule_of_the_weight_decay(make):
  """Without a gradient only the decay moves a weight: by rate · decay(t) · w in these optimizers."""
  decay = schedules.cosine(start=0.1, end=0.4, steps=4)
  arguments = {"steps": 10**6, "learning_rate": 0.1}
  if make in (sgd, lars):
    arguments |= {"momentum": 0.0}
  nothing = [jax.tree.map(np.zeros_like, PARAMS)] * 5
  found = trained(make(**arguments, weight_decay=decay), PARAMS, nothing)
  for name, w in leaves(PARAMS).items():
    for step, after in enumerate(found):
      share = 0.25 - 0.15 * math.cos(math.pi * step / 4)
      if make is lars:  # 1e-3 ‖w‖ / ‖decay · w‖ cancels the decay
        share = 1e-3
      if make is lamb:  # and ‖w‖ / ‖decay · w‖ too
        share = 1
      w = w * (1 - 0.1 * share) if name.endswith("kernel") else w
      np.testing.assert_allclose(after[name], w, rtol=1e-5, err_msg=f"{name} {step}")


def test_a_schedule_of_the_weight_decay_in_a_config():
  spec = {
    "name": "adamw",
    "learning_rate": 0.1,
    "weight_decay": {"name": "cosine", "start": 0.04, "end": 0.4},
  }
  optimizer = assemble(optax.GradientTransformation, spec, "optimizer", given={"steps": 100})
  expected = adamw(
    steps=100, learning_rate=0.1, weight_decay=schedules.cosine(start=0.04, end=0.4, steps=100)
  )
  found, expected = (trained(each, PARAMS, [GRADIENT] * 3)[-1] for each in (optimizer, expected))
  jax.tree.map(np.testing.assert_array_equal, found, expected)


@pytest.mark.parametrize("name", ["vit", "pooled", "resnet", "text"])
@pytest.mark.parametrize("make", ALL)
def test_the_update_of_a_layer_is_scaled_by_its_distance_from_the_end(make, name, all_parameters):
  params = {"my_encoder": all_parameters[name], "projection": all_parameters["projection"]}
  params, rng = jax.tree.map(np.float64, params), np.random.default_rng(0)
  gradient = jax.tree.map(lambda p: rng.standard_normal(p.shape), params)
  arguments = {"steps": 1000, "learning_rate": 0.1, "weight_decay": 0.1}
  whole, scaled = (
    trained(make(**arguments, **more), params, [gradient])[0] for more in ({}, {"layer_decay": 0.5})
  )
  last = {"vit": 2, "pooled": 2, "resnet": 4, "text": 2}[name]  # ResNet-8 has three stages
  for path, before in leaves(params).items():
    _, first, *rest = path.split("/")
    if path.startswith("projection/") or first in ("norm", "attn_pool"):
      layer = last
    else:
      layer = int(rest[0]) + 1 if first in ("blocks", "stages") else 0
    expected = 0.5 ** (last - layer) * (whole[path] - before)
    np.testing.assert_allclose(scaled[path] - before, expected, rtol=1e-6, atol=1e-12, err_msg=path)


def test_layer_wise_rates_of_an_encoder_without_layers_are_refused():
  optimizer = sgd(steps=10, learning_rate=0.1, layer_decay=0.5)
  with pytest.raises(UserError, match="layer_decay needs a trained encoder with blocks or stages"):
    optimizer.init(PARAMS)
  for decay in (0, -0.5, 1.5, math.nan):
    with pytest.raises(UserError, match="layer_decay must be above 0 and at most 1, not"):
      sgd(steps=10, learning_rate=0.1, layer_decay=decay)


@pytest.mark.parametrize("make", ALL)
def test_the_options_that_are_off_leave_no_trace_in_the_state(make):
  """So a run of a version without the options resumes."""
  plain = make(steps=10, learning_rate=0.1)
  off = make(steps=10, learning_rate=0.1, clip=None, layer_decay=None)
  assert jax.tree.structure(plain.init(PARAMS)) == jax.tree.structure(off.init(PARAMS))
