"""What terms and methods refuse, and masks that belong to no view."""

import all_methods
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import contrastax
from contrastax import data, encoders, evaluation, losses, methods, training, views
from contrastax.core import Encoder, UserError
from contrastax.terms import Apply, Contrast

ENCODER = encoders.mlp((8,))
HEAD = encoders.projection((8,), 4)
IMAGES = np.random.default_rng(0).integers(0, 256, (16, 6, 6, 1), np.uint8)
BATCH = data.Resident({"image": IMAGES}, batch_size=8).batch(0)


def value(method, batch):
  @jax.jit
  def evaluated(batch):
    params, state = method.init(jax.random.key(0), batch)
    return method.objective(params, state, batch, jax.random.key(1))[0]

  return float(evaluated(batch))


def masked(padding, paths="encoder.tokens"):
  """Three tokens an example, of which the last is what `padding` makes of the embedding."""

  def apply(params, state, x, *, key, train):
    y, state = ENCODER.apply(params, state, x, key=key, train=train)
    return {"embedding": y, "tokens": jnp.stack([y, 2 * y + 1, padding(y)], 1)}, state

  term = Contrast(anchors=paths, mask="batch.mask", average="with positives")
  recipes = (all_methods.noise, all_methods.noise)
  return methods.Siamese(encoder=Encoder(ENCODER.init, apply), views=recipes, terms=(term,))


def test_a_mask_of_the_batch_serves_all_views():
  mask = jnp.tile(jnp.asarray([True, True, False]), (8, 1))
  one, other = (value(masked(f), {**BATCH, "mask": mask}) for f in (jnp.cos, jnp.square))
  assert one == pytest.approx(other, rel=1e-6)
  assert value(masked(jnp.cos), {**BATCH, "mask": jnp.ones_like(mask)}) != pytest.approx(one)


def test_a_mask_of_another_length_is_one_line():
  with pytest.raises(
    UserError, match=r"mask must have one entry for each of the 24 vectors, .*not \[8, 2\]"
  ):
    value(masked(jnp.cos), {**BATCH, "mask": jnp.ones((8, 2), bool)})


@pytest.mark.parametrize("tag", ["loss", "similarity", "objective"])
def test_a_term_cannot_have_the_name_of_a_metric(tag):
  term = Apply(loss=losses.uniformity, of=("projection",), how="each", tag=tag)
  parts = {"encoder": ENCODER, "projection": HEAD, "views": all_methods.noise}
  with pytest.raises(UserError, match=f"the tag '{tag}' of a term is also the name of a metric"):
    value(methods.SimCLR(**parts, terms=(term,)), BATCH)


@pytest.mark.parametrize(
  "make", [lambda: Apply(loss=losses.vicreg, of=()), lambda: Contrast(anchors=())]
)
def test_a_term_of_no_path_is_one_line(make):
  with pytest.raises(UserError, match="path"):
    make()


@pytest.mark.parametrize("tag", ["a.b", "0", "", "batch", "view", "z"])
def test_a_tower_needs_a_name_of_its_own(tag):
  with pytest.raises(UserError, match="a tag must be a name"):
    methods.Towers(
      towers=(methods.Tower(tag=tag, input="image", encoder=ENCODER),), terms=(Contrast(),)
    )


@pytest.mark.parametrize("positives", [1, 3])
def test_pairs_take_as_many_positives_as_there_are(positives):
  method = methods.Pairs(
    encoder=ENCODER, positives=positives, inputs=("image", "two"), views=views.unchanged()
  )
  batch = {**BATCH, "two": jnp.stack([BATCH["image"]] * 2, 1)}
  with pytest.raises(UserError, match=rf"must be \[n, {positives}, …\], not \[8, 2, 6, 6, 1\]"):
    value(method, batch)


def test_inputs_may_be_a_tuple_of_arrays(tmp_path):
  """A run of such inputs writes encoder.json, and `load` reads it."""
  first = Encoder(
    lambda key, x: ENCODER.init(key, x[0]),
    lambda p, s, x, *, key, train: ENCODER.apply(p, s, x[0], key=key, train=train),
  )
  method = methods.Siamese(
    encoder=first,
    views=(views.unchanged(),) * 2,
    input="pair",
    terms=(Contrast(anchors="encoder"),),
  )
  x = np.random.default_rng(0).normal(size=(16, 3)).astype(np.float32)
  source = data.Resident({"pair": (x, x[:, :2])}, batch_size=8)
  state = training.train(method, optax.sgd(0.1), source, steps=1, workdir=tmp_path)
  run = contrastax.load(tmp_path, encoder=first)
  own = state.params["encoder"], state.state["encoder"]
  np.testing.assert_array_equal(run((x, x[:, :2])), evaluation.embed(first, *own, (x, x[:, :2])))
  with pytest.raises(UserError, match="takes a tuple of 2 for inputs, not ndarray"):
    run(x)


def test_swav_passes_a_key_to_prototypes_in_its_queue():
  """An `Encoder` may have its arguments `key` and `state` without defaults."""
  of = encoders.prototypes(10)
  strict = Encoder(of.init, lambda p, s, x, *, key, train: of.apply(p, s, x, key=key, train=train))
  parts = {"encoder": ENCODER, "projection": HEAD, "views": all_methods.noise}
  made = (methods.SwAV(**parts, prototypes=p, queue_size=16) for p in (of, strict))
  assert len({value(method, BATCH) for method in made}) == 1
