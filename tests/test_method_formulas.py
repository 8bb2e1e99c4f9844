"""The methods' objectives are their papers', on networks that only scale their inputs."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastax import encoders, losses, methods, schedules, temperatures, views
from contrastax.core import Encoder, UserError
from contrastax.negatives import in_batch, noise, queue
from contrastax.networks import Net

N, D, TAU = 6, 5, 0.3
rng = np.random.default_rng(0)
KEY = jax.random.key(0)


@dataclasses.dataclass(frozen=True)
class stored:
  """The recipe of view v: what is stored in `image` [n, v, d] of it, as an image [n, 1, 1, d]."""

  v: int

  def __call__(self, key, images, index):
    return images[:, self.v, None, None]


def scaling(by):
  """A network x ↦ by x, flattened."""
  return Encoder(
    lambda key, x: ({"kernel": jnp.asarray(by)}, ()),
    lambda params, state, x, *, key, train: (x.reshape(len(x), -1) * params["kernel"], state),
  )


COMMON = {"encoder": scaling(2.0), "projection": scaling(0.5), "views": (stored(0), stored(1))}
TEMPERED = {**COMMON, "temperature": temperatures.fixed(TAU)}


def batch_of(count=2, start=0, **more):
  return {
    "image": jnp.asarray(rng.normal(size=(N, count, D))),
    "index": jnp.asarray(np.arange(start, start + N)),
    **more,
  }


@functools.partial(jax.jit, static_argnums=0)
def init(method, batch):
  return method.init(KEY, batch)


@functools.partial(jax.jit, static_argnums=0)
def objective(method, batch, params=None, state=None):
  """(Value, state, metrics), from the parameters and the state or from the beginning."""
  if params is None:
    params, state = method.init(KEY, batch)
  value, (state, metrics) = method.objective(params, state, batch, KEY)
  return value, state, metrics


def views_in(batch):
  return list(np.moveaxis(np.asarray(batch["image"]), 1, 0))


def unit(x):
  return x / np.linalg.norm(x, axis=-1, keepdims=True)


def both_ways(loss, x, y):
  """The mean of loss(x, y) and loss(y, x), each the mean over anchors."""
  return jax.jit(lambda x, y: (loss(x, y).mean() + loss(y, x).mean()) / 2)(x, y)


def test_simclr_of_more_views_has_each_of_the_others_as_a_positive(float64):
  batch = batch_of(3)
  method = methods.SimCLR(**{**TEMPERED, "views": tuple(map(stored, range(3)))})
  z = np.concatenate([unit(x) for x in views_in(batch)])
  index, logits = np.tile(np.arange(N), 3), z @ z.T / TAU
  values = []
  for i in range(3 * N):
    others = [j for j in range(3 * N) if j != i]
    positives = [j for j in others if index[j] == index[i]]
    values.append(np.log(np.exp(logits[i, others]).sum()) - logits[i, positives].mean())
  np.testing.assert_allclose(objective(method, batch)[0], np.mean(values), rtol=1e-12)


def test_moco_v3_is_the_mean_of_both_directions(float64):
  batch = batch_of()
  method = methods.MoCoV3(**TEMPERED, predictor=scaling(3.0))
  expected = both_ways(functools.partial(losses.info_nce, temperature=TAU), *views_in(batch))
  np.testing.assert_allclose(objective(method, batch)[0], expected, rtol=1e-12)


def test_moco_v3_takes_a_queue_of_both_views(float64):
  method = methods.MoCoV3(**TEMPERED, predictor=scaling(3.0), negatives=queue(2 * N))
  first, batch = batch_of(), batch_of(start=N)
  params, state = init(method, first)
  _, state, _ = objective(method, first, params, state)
  value, _, metrics = objective(method, batch, params, state)
  older = np.concatenate(views_in(first))
  expected = both_ways(lambda x, y: losses.info_nce(x, y, older, temperature=TAU), *views_in(batch))
  np.testing.assert_allclose(value, expected, rtol=1e-12)
  assert metrics["negatives"] == 2 * N


def test_sup_con_is_its_loss(float64):
  batch = batch_of(label=jnp.asarray(np.arange(N) % 2))
  z, label = np.concatenate(views_in(batch)), np.tile(batch["label"], 2)
  expected = jax.jit(losses.sup_con)(z, label, temperature=TAU).mean()
  np.testing.assert_allclose(objective(methods.SupCon(**TEMPERED), batch)[0], expected, rtol=1e-12)


@pytest.mark.parametrize("dtype", [bool, jnp.uint8, jnp.int8, jnp.float32, "[n, 1]"], ids=str)
def test_the_type_of_a_batchs_labels_does_not_matter(dtype):
  """Also beside negatives of no example, which have no label: none is one of an anchor's class."""
  method = methods.SupCon(
    **TEMPERED, negatives=in_batch() + noise(count=3, steps=0, size=1.0, temperature=1.0)
  )
  label = jnp.asarray([0, 1, 0, 1, 0, 1], jnp.int32)
  batch = batch_of(label=label)
  expected, _, metrics = objective(method, batch)
  other = {**batch, "label": label[:, None] if dtype == "[n, 1]" else label.astype(dtype)}
  value, _, found = objective(method, other)
  np.testing.assert_allclose(value, expected, rtol=1e-6)
  assert metrics["negatives"] == found["negatives"] == 9


def test_an_example_without_a_label_is_a_negative_of_all_others_but_not_of_itself():
  label = jnp.asarray([0, 1, -1, -1, 0, 1])
  _, _, metrics = objective(methods.SupCon(**TEMPERED), batch_of(label=label))
  each = np.array([8, 8, 10, 10, 8, 8])  # of the 12 vectors, less those of the label or the example
  np.testing.assert_allclose(metrics["negatives"], each.mean(), rtol=1e-6)


def test_sup_con_without_labels_is_refused():
  with pytest.raises(UserError, match="same_label needs labels, but the data have none"):
    objective(methods.SupCon(**TEMPERED), batch_of())


def test_clip_is_its_loss(float64):
  batch = batch_of(1) | {"text": jnp.asarray(rng.normal(size=(N, 2 * D)))}
  kernel = jnp.asarray(rng.normal(size=(2 * D, D)))
  other = Encoder(
    lambda key, x: ({"kernel": kernel}, ()),
    lambda params, state, x, *, key, train: (x @ params["kernel"], state),
  )
  method = methods.CLIP(
    encoder=scaling(2.0), projection=scaling(0.5), views=stored(0), other_encoder=other,
    other_projection=scaling(1.0), temperature=temperatures.learned(TAU),
  )  # fmt: skip
  text = np.asarray(batch["text"]) @ np.asarray(kernel)
  expected = jax.jit(losses.clip)(views_in(batch)[0], text, temperature=TAU).mean()
  np.testing.assert_allclose(objective(method, batch)[0], expected, rtol=1e-12)


def test_clip_says_what_the_batch_lacks():
  method = methods.CLIP(
    **COMMON | {"views": stored(0)}, other_encoder=scaling(1.0), other_projection=scaling(1.0)
  )
  with pytest.raises(UserError, match="CLIP: there is no field 'text'; there are: image, index"):
    method.init(KEY, batch_of(1))


def test_nnclr_meets_the_nearest_of_the_support_set(float64):
  method = methods.NNCLR(**TEMPERED, predictor=scaling(3.0), support=2 * N)
  first, batch = batch_of(), batch_of(start=N - 2)  # two examples are in the support set themselves
  params, state = init(method, first)
  x, y = views_in(first)
  info_nce = jax.jit(losses.info_nce)
  expected = [info_nce(a, b, temperature=TAU).mean() for a, b in ((x, y), (y, x))]
  value, state, _ = objective(method, first, params, state)  # nothing is there yet: z itself
  np.testing.assert_allclose(value, np.mean(expected), rtol=1e-12)
  value, _, _ = objective(method, batch, params, state)

  def neighbors(z):
    similar = unit(z) @ unit(x).T
    similar[0, N - 2] = similar[1, N - 1] = -2  # not itself
    return x[similar.argmax(1)]

  a, b = views_in(batch)
  expected = [
    info_nce(neighbors(one), other, temperature=TAU).mean() for one, other in ((a, b), (b, a))
  ]
  np.testing.assert_allclose(value, np.mean(expected), rtol=1e-12)


def test_i_mix_is_the_cross_entropy_of_both_shares(float64):
  batch = batch_of()
  method = methods.IMix(**TEMPERED, mix=views.mixup(1.0))
  x, y = views_in(batch)
  mixed, partner, share = jax.tree.map(
    np.asarray, jax.jit(method.mix)(KEY, x[:, None, None], batch["index"])
  )
  logits = unit(mixed.reshape(N, -1)) @ unit(y).T / TAU
  log_p, rows = logits - np.log(np.exp(logits).sum(1, keepdims=True)), np.arange(N)
  expected = -(share * log_p[rows, rows] + (1 - share) * log_p[rows, partner]).mean()
  # The share is float32, as images are.
  np.testing.assert_allclose(objective(method, batch)[0], expected, rtol=1e-6)


@pytest.mark.parametrize("loss", [losses.mv_dhel, losses.mv_info_nce, losses.poly_view])
def test_multiview_is_its_loss(float64, loss):
  batch = batch_of(3)
  method = methods.Multiview(**{**TEMPERED, "views": tuple(map(stored, range(3)))}, loss=loss)
  expected = jax.jit(loss)(np.stack(views_in(batch)), temperature=TAU).mean()
  np.testing.assert_allclose(objective(method, batch)[0], expected, rtol=1e-12)


@pytest.mark.parametrize("loss", [losses.cacr, losses.dhel, losses.nt_xent])
def test_multiview_refuses_what_is_no_loss_of_all_views(loss):
  with pytest.raises(UserError, match="Multiview: loss must be a loss of all views"):
    methods.Multiview(**TEMPERED, loss=loss)


def test_byol_is_the_distance_of_unit_vectors_in_both_directions(float64):
  batch = batch_of()
  method = methods.BYOL(**COMMON, predictor=scaling(3.0))
  x, y = map(unit, views_in(batch))
  expected = 2 * ((x - y) ** 2).sum(1).mean()
  np.testing.assert_allclose(objective(method, batch)[0], expected, rtol=1e-12)


def test_simsiam_is_half_the_cosine_of_both_directions(float64):
  batch = batch_of()
  method = methods.SimSiam(**COMMON, predictor=scaling(3.0))
  x, y = map(unit, views_in(batch))
  np.testing.assert_allclose(objective(method, batch)[0], -(x * y).sum(1).mean(), rtol=1e-12)


@pytest.mark.parametrize(
  "method, loss",
  [
    (methods.BarlowTwins(**COMMON, redundancy_weight=0.1),
     lambda x, y: losses.barlow_twins(x, y, redundancy_weight=0.1)),
    (methods.VICReg(**COMMON, variance_weight=3.0),
     lambda x, y: losses.vicreg(x, y, variance_weight=3.0)),
    (methods.WMSE(**COMMON), lambda x, y: losses.w_mse(x, y).mean()),
  ],
  ids=["BarlowTwins", "VICReg", "WMSE"],
)  # fmt: skip
def test_statistics_of_two_views(float64, method, loss):
  batch = batch_of()
  expected = jax.jit(loss)(*views_in(batch))
  np.testing.assert_allclose(objective(method, batch)[0], expected, rtol=1e-10)


def test_w_mse_of_four_views_is_the_mean_over_their_pairs(float64):
  batch = batch_of(4)
  method = methods.WMSE(**COMMON | {"views": tuple(map(stored, range(4)))})
  x = views_in(batch)
  w_mse = jax.jit(losses.w_mse)
  pairs = [w_mse(x[a], x[b]).mean() for a in range(4) for b in range(a)]
  np.testing.assert_allclose(objective(method, batch)[0], np.mean(pairs), rtol=1e-10)


def scored(params, batch):
  """The scores [v, n, k] of all views of a batch."""
  prototypes = unit(np.asarray(params["prototypes"]["kernel"]))
  return np.stack([unit(x) @ prototypes.T for x in views_in(batch)])


def test_swav_assigns_among_the_batch_and_then_the_queue(float64):
  method = methods.SwAV(**COMMON, prototypes=encoders.prototypes(4), queue_size=N)
  first, batch = batch_of(), batch_of(start=N)
  params, state = init(method, first)
  sinkhorn, swapped_prediction = jax.jit(losses.sinkhorn), jax.jit(losses.swapped_prediction)
  scores = scored(params, first)
  expected = swapped_prediction(scores, np.stack([sinkhorn(s) for s in scores]))
  value, state, _ = objective(method, first, params, state)
  np.testing.assert_allclose(value, expected.mean(), rtol=1e-10)

  state = method.advance(params, state, 0)
  value, _, _ = objective(method, batch, params, state)
  now = scored(params, batch)
  pairs = [np.concatenate(pair) for pair in zip(now, scores, strict=True)]
  expected = swapped_prediction(now, np.stack([np.asarray(sinkhorn(pair))[:N] for pair in pairs]))
  np.testing.assert_allclose(value, expected.mean(), rtol=1e-6)  # the queue is float32


def test_dino_follows_the_centered_teacher(float64):
  method = methods.DINO(
    **COMMON, prototypes=encoders.prototypes(4), momentum=0.5, center_momentum=0.9,
    teacher_temperature=schedules.linear(start=0.04, end=0.08, steps=2),
  )  # fmt: skip
  batch = batch_of()
  params, state = init(method, batch)
  scores = scored(params, batch)
  self_distillation = jax.jit(losses.self_distillation)
  for step, sharp in enumerate((0.04, 0.06)):
    center = np.asarray(state["center"])
    expected = self_distillation(scores, scores, center=center, teacher_temperature=sharp)
    value, state, _ = objective(method, batch, params, state)
    np.testing.assert_allclose(value, expected.mean(), rtol=1e-5)
    np.testing.assert_allclose(
      state["center"], 0.9 * center + 0.1 * scores.mean((0, 1)), rtol=1e-5, atol=1e-8
    )
    state = method.advance(params, state, step)


@pytest.mark.parametrize("method", [methods.SwAV, methods.DINO])
def test_prototypes_stay_while_they_are_frozen(float64, method):
  made = method(**COMMON, prototypes=encoders.prototypes(4), frozen_steps=1)
  batch = batch_of()
  params, state = init(made, batch)
  gradient = jax.jit(jax.grad(lambda p, s: made.objective(p, s, batch, KEY)[0]))
  assert not gradient(params, state)["prototypes"]["kernel"].any()
  assert gradient(params, state)["projection"]["kernel"] != 0
  later = made.advance(params, state, 0)
  assert gradient(params, later)["prototypes"]["kernel"].any()


def test_the_average_follows_what_is_trained(float64):
  """θ' after two updates with a scheduled momentum, in NumPy; the targets see θ', not θ."""
  method = methods.MoCo(**TEMPERED, momentum=lambda step: 0.5 + 0.25 * step, negatives=queue(N))
  batch = batch_of()
  params, state = method.init(KEY, batch)
  expected = 2.0
  for step, (m, kernel) in enumerate(((0.5, 4.0), (0.75, -3.0))):
    params = {**params, "encoder": {"kernel": jnp.asarray(kernel)}}
    state = method.advance(params, state, step)
    expected = m * expected + (1 - m) * kernel
  assert state["target"]["params"]["encoder"]["kernel"] == pytest.approx(expected)
  _, state, _ = objective(method, batch, params, state)
  held = state["terms"]["contrast"]["negatives"]["keys"].vectors
  np.testing.assert_allclose(held, expected * 0.5 * batch["image"][:, 1], rtol=1e-12)


@pytest.mark.parametrize("name", ["MoCo", "MoCoV3", "BYOL", "SimSiam", "BarlowTwins", "VICReg"])
def test_a_method_of_two_views_refuses_more(name):
  given = {**COMMON, "views": tuple(map(stored, range(3)))}
  method = getattr(methods, name)
  if "predictor" in {field.name for field in dataclasses.fields(method)}:
    given["predictor"] = scaling(1.0)
  if name == "MoCo":
    given["negatives"] = queue(N)
  with pytest.raises(UserError, match=f"{name} takes 2 views, not 3; give one recipe or 2"):
    objective(method(**given), batch_of(3))


@pytest.mark.parametrize("method", [methods.SwAV, methods.DINO])
def test_small_crops_come_after_the_large_ones(method):
  convnet = encoders.convnet((4,))
  made = method(
    encoder=convnet, projection=encoders.projection((4,), 4), prototypes=encoders.prototypes(3),
    views=views.multi_crop((16, 8), counts=(2, 2)),
  )  # fmt: skip
  batch = {"image": jnp.asarray(rng.random((N, 20, 20, 3)), jnp.float32), "index": jnp.arange(N)}
  value, _, _ = objective(made, batch)
  assert np.isfinite(value)
  wrong = dataclasses.replace(made, views=made.views[::-1][1:])  # small, large, large
  with pytest.raises(
    UserError, match=f"the first two views of {method.__name__} must have the same size"
  ):
    objective(wrong, batch)


def test_views_of_several_sizes_pass_in_their_order(float64):
  """Row i of every view is example i: as if each size had passed alone, but for BatchNorm."""
  sizes = views.multi_crop((16, 8), counts=(2, 2))
  flat = Encoder(
    lambda key, x: ({"kernel": jnp.ones(())}, ()),
    lambda params, state, x, *, key, train: (x.mean((1, 2)) * params["kernel"], state),
  )
  method = methods.SwAV(
    encoder=flat, projection=scaling(1.0), prototypes=encoders.prototypes(3), views=sizes
  )
  images = jnp.asarray(rng.random((N, 20, 20, 3)), jnp.float32)

  @jax.jit
  def encoded(images):
    drawn = views.draw_views(sizes, KEY, images, jnp.arange(N))
    params, state = method.init(KEY, {"image": images, "index": jnp.arange(N)})
    net = Net(method, params, state, KEY)
    return drawn, list(net("encoder", dict(enumerate(drawn))).values())

  for x, z in zip(*encoded(images), strict=True):
    np.testing.assert_allclose(z, np.asarray(x).mean((1, 2)), rtol=1e-6)
