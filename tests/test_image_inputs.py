"""What takes images: which types, ranges and shapes it takes, and what it says of others.

A new recipe, operation or entry joins by its line in a table; a test checks that each is listed.
"""

import dataclasses
import functools
import inspect

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from contrastax import data, encoders, methods, training, views
from contrastax.core import UserError
from contrastax.evaluation import embed, fine_tune, online_probe, with_online_probe
from contrastax.evaluation.transfer import fitted
from contrastax.training.load import FrozenEncoder
from contrastax.views.images import as_input

N = 6
KEY, INDEX = jax.random.key(4), np.arange(N, dtype=np.int32) * 3
COLORS = ("saturation", "hue", "gray")
TAKEN = (1, 3, 13)  # numbers of channels


def bytes_of(channels=3, side=8):
  return np.random.default_rng(channels).integers(0, 256, (N, side, side, channels), np.uint8)


def image_of(channels):
  return jax.ShapeDtypeStruct((8, 8, channels), np.uint8)


# Recipes: name -> the recipe for so many channels; of several views the last.

RECIPES = {
  "augment": lambda c: views.augment(
    size=7, brightness=0.4, contrast=0.4, blur=0.5, solarize=0.5, channels=c
  ),
  "simclr": lambda c: views.simclr(7, channels=c),
  "moco_v2": lambda c: views.moco_v2(7, channels=c),
  "byol": lambda c: views.byol(7, channels=c)[1],
  "multi_crop": lambda c: views.multi_crop((9, 7), channels=c)[-1],
  "affine_jitter": lambda c: views.affine_jitter(),
}
ONE_CHANNEL = {"gray": lambda c: views.gray(7)}
MIXES = {"mixup": lambda c: views.mixup(), "cutmix": lambda c: views.cutmix()}


# Operations: name -> the operation with arguments that do something.


def each(low, high):
  return np.linspace(low, high, N, dtype=np.float32)


WHOLE = {
  "top": np.arange(N) % 2,
  "left": np.arange(N) % 3,
  "height": np.full(N, 4),
  "width": np.full(N, 5),
}
PARTNER = np.roll(np.arange(N), 1)
ORDER = np.stack([np.arange(N) % 2, 1 - np.arange(N) % 2], 1)
OPERATIONS = {
  "add_noise": lambda x: views.add_noise(x, np.ones(x.shape, np.float32), 0.1),
  "adjust_brightness": lambda x: views.adjust_brightness(x, each(0, 2)),
  "adjust_contrast": lambda x: views.adjust_contrast(x, each(0, 2)),
  "affine": lambda x: views.affine(
    x, shift=np.full((N, 2), 0.4, np.float32), scale=each(0.8, 1.2), angle=each(-1, 1)
  ),
  "blend": lambda x: views.blend(x, PARTNER, each(0, 1)),
  "flip": lambda x: views.flip(x, np.arange(N) % 2 == 0),
  "gaussian_blur": lambda x: views.gaussian_blur(x, each(0, 2), kernel=3),
  "intensity": lambda x: views.intensity(x, each(0, 2)),
  "jitter": lambda x: views.jitter(x, order=ORDER, brightness=each(0, 2), contrast=each(2, 0)),
  "normalize": lambda x: views.normalize(x, (0.4,) * x.shape[-1], (0.2,) * x.shape[-1]),
  "paste": lambda x: views.paste(x, PARTNER, **WHOLE),
  "resized_crop": lambda x: views.resized_crop(x, size=6, **WHOLE),
  "solarize": lambda x: views.solarize(x),
}
OF_COLORS = {
  "adjust_hue": lambda x: views.adjust_hue(x, each(-0.4, 0.4)),
  "adjust_saturation": lambda x: views.adjust_saturation(x, each(0, 2)),
  "to_gray": lambda x: views.to_gray(x),
}
OTHERS = {
  "Mixed",
  "draw_views",
  "sample_box",
  "sample_jitter",
  "sample_partner",
  "to_float",
  "unchanged",
}


def test_every_public_recipe_and_operation_is_listed():
  public = {name for name, value in vars(views).items() if callable(value) and name[0] != "_"}
  listed = {*RECIPES, *ONE_CHANNEL, *MIXES, *OPERATIONS, *OF_COLORS, *OTHERS}
  assert public == listed


# Channels.


@functools.cache
def compiled(name):
  return jax.jit(OPERATIONS[name])


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("channels", [2, 13])
def test_an_operation_does_to_each_channel_what_it_does_to_that_channel_alone(name, channels):
  x, operation = (bytes_of(channels) / 255).astype(np.float32), compiled(name)
  together = operation(x)
  alone = [operation(x[..., i : i + 1]) for i in range(channels)]
  chex.assert_trees_all_close(together, np.concatenate(alone, -1), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", OF_COLORS)
@pytest.mark.parametrize("channels", [2, 13])
def test_an_operation_on_colors_takes_three_channels(name, channels):
  with pytest.raises(UserError, match=f"{name} needs images of 3 channels .*, not {channels}"):
    OF_COLORS[name](jnp.zeros((N, 8, 8, channels)))


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("channels", TAKEN)
def test_a_recipe_serves_any_number_of_channels(name, channels):
  view = RECIPES[name](channels)(KEY, bytes_of(channels), INDEX)
  chex.assert_shape(view, (N, *((8, 8) if name == "affine_jitter" else (7, 7)), channels))
  chex.assert_tree_all_finite(view)


@pytest.mark.parametrize("name", ["simclr", "moco_v2", "byol", "multi_crop"])
@pytest.mark.parametrize("channels", TAKEN)
def test_a_papers_recipe_names_what_it_left_out(name, channels):
  recipe, whole = RECIPES[name](channels), RECIPES[name](3)
  assert whole.left_out == () and all(getattr(whole, color) > 0 for color in COLORS)
  if channels != 3:
    assert recipe.left_out == COLORS
    without = dict.fromkeys(COLORS, 0.0)
    assert recipe == dataclasses.replace(whole, **without, channels=channels, left_out=COLORS)


def test_what_a_setting_turns_off_is_not_left_out():
  assert views.simclr(8, strength=0.0, channels=4).left_out == ("gray",)
  assert views.gray(8).left_out == COLORS


@pytest.mark.parametrize("channels", [1, 4, 13])
def test_further_channels_change_no_draw(channels):
  """Crop, flip, blur and solarize of the first channel are the same whatever the others are."""
  x = bytes_of(16)
  settings = {"size": 7, "jitter": 0.0, "blur": 0.5, "solarize": 0.5}
  expected = views.augment(**settings)(KEY, x[..., :3], INDEX)
  found = views.augment(**settings, channels=channels)(KEY, x[..., :channels], INDEX)
  found, expected = (np.asarray(view)[..., :1] for view in (found, expected))
  chex.assert_trees_all_close(found, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", COLORS)
def test_a_setting_that_needs_colors_is_refused_for_other_channels(name):
  with pytest.raises(UserError, match=f"augment: {name} needs 3 channels .* for channels=4, not"):
    views.augment(size=8, channels=4, **{name: 0.1})


# Entries: name -> (a function of images [n, 8, 8, 3], what it gives).

ENCODER = encoders.convnet((4,))
OWN = jax.jit(ENCODER.init)(jax.random.key(0), np.zeros((1, 8, 8, 3), np.float32))
METHOD = methods.SimCLR(
  encoder=encoders.convnet((4,)),
  projection=encoders.projection((4,), out=4),
  views=views.augment(size=8),
)
PROBED = with_online_probe(METHOD, online_probe(2))
SGD = optax.sgd(0.1)
AUGMENT, AFFINE_JITTER = (jax.jit(RECIPES[name](3)) for name in ("augment", "affine_jitter"))


def batch_of(images):
  return {"image": images, "label": np.arange(len(images)) % 2, "index": INDEX}


def tuned(images, side):
  other = np.zeros((N, 8, 8, 3), np.uint8)
  split = {side: images, ("test" if side == "train" else "train"): other}
  train, test = ({"image": split[part], "label": np.arange(N) % 2} for part in ("train", "test"))
  return fine_tune(ENCODER, *OWN, train, test, fraction=1.0, steps=1)


def from_file(images, folder):
  np.savez(folder / "mine.npz", image=images, test_image=images)
  return data.load(f"npz:{folder / 'mine.npz'}").train["image"]


ENTRIES = {
  "embed": lambda x, _: embed(ENCODER, *OWN, x),
  "fitted": lambda x, _: fitted(x, (4, 4, 1)),
  "fitted, same shape": lambda x, _: as_input(fitted(x, (8, 8, 3))),
  "FrozenEncoder": lambda x, _: FrozenEncoder(ENCODER, *OWN, image_of(3), 0)(x),
  "fine_tune, train": lambda x, _: tuned(x, "train"),
  "fine_tune, test": lambda x, _: tuned(x, "test"),
  "to_float": lambda x, _: views.to_float(x),
  "npz": lambda x, folder: as_input(from_file(x, folder)),
  "Resident": lambda x, _: as_input(data.Resident({"image": x}, batch_size=N).batch(0)["image"]),
  "unchanged": lambda x, _: views.unchanged()(KEY, jnp.asarray(x), INDEX),
  **{f"views.{name}": lambda x, _, f=f: f(3)(KEY, x, INDEX) for name, f in RECIPES.items()},
}
TRACED = {  # inside a compiled step: values are not known, types and shapes are
  "training.init": lambda x, _: training.init(METHOD, SGD, batch_of(x)).params,
  "online probe": lambda x, _: training.init(PROBED, SGD, batch_of(x)).params,
  "views.augment, jitted": lambda x, _: AUGMENT(KEY, x, INDEX),
  "views.affine_jitter, jitted": lambda x, _: AFFINE_JITTER(KEY, x, INDEX),
}
UNCHECKED = ("unchanged",)  # in the step, and of any kind of input


SAME = {
  "float32": lambda x: (x / 255).astype(np.float32),
  "float64": lambda x: x / 255,
  "jax uint8": jnp.asarray,
  "jax float32": lambda x: jnp.asarray(x / 255, jnp.float32),
}


@pytest.mark.parametrize("name", [*ENTRIES, *TRACED])
def test_the_same_image_gives_the_same_result_whatever_its_type(name, tmp_path):
  x, entry = bytes_of(), (ENTRIES | TRACED)[name]
  expected = entry(x, tmp_path)
  for kind, convert in SAME.items():
    found = entry(convert(x), tmp_path)
    chex.assert_trees_all_close(
      found, expected, rtol=1e-4, atol=1e-5, custom_message=f"of {kind} images"
    )


HALF = {"float16": np.float16, "bfloat16": jnp.bfloat16}


@pytest.mark.parametrize(
  "name", [name for name in ENTRIES if name not in ("npz", "views.affine_jitter")]
)
@pytest.mark.parametrize("kind", HALF)
def test_half_precision_is_taken(name, kind, tmp_path):
  """By all but np.savez; affine_jitter takes it too, but draws other numbers in it."""
  x = jnp.asarray(bytes_of() / 255, HALF[kind])
  found = ENTRIES[name](x, tmp_path)
  expected = ENTRIES[name](x.astype(jnp.float32), tmp_path)
  chex.assert_trees_all_close(np.float32(found), np.float32(expected), rtol=0, atol=0.05)


OTHER_TYPES = {
  "uint16": (lambda x: x.astype(np.uint16) * 257, "found uint16: divide by 65535"),
  "int8": (lambda x: (x // 2).astype(np.int8), r"found int8: pass images.astype\('uint8'\)"),
  "int16": (lambda x: x.astype(np.int16), r"found int16: pass images.astype\('uint8'\)"),
  "int32": (lambda x: x.astype(np.int32), r"found int32: pass images.astype\('uint8'\)"),
  "int64": (lambda x: x.astype(np.int64), r"found int(64|32): pass images.astype\('uint8'\)"),
  "uint32": (lambda x: x.astype(np.uint32), r"found uint32: pass images.astype\('uint8'\)"),
  "bool": (lambda x: x > 127, r"found bool: pass images.astype\('float32'\)"),
  "complex": (lambda x: x.astype(np.complex64), "found complex64"),
}
OTHER_VALUES = {
  "float 0 to 255": (lambda x: x.astype(np.float32), r"float32 in \[0, 255\]: divide by 255"),
  "float -1 to 1": (lambda x: x / np.float32(127.5) - 1, r"in \[-1, 1\]: scale them to \[0, 1\]"),
  "jax float 0 to 255": (lambda x: jnp.float32(x), r"float32 in \[0, 255\]: divide by 255"),
  "infinite": (lambda x: np.where(x > 250, np.inf, x / 255), "with NaN or infinity in image"),
  "NaN": (lambda x: with_nan(x / 255), "with NaN or infinity in image 2: remove it"),
  "jax NaN": (
    lambda x: jnp.asarray(with_nan(x / 255)),
    "with NaN or infinity in image 2: remove it",
  ),
}
OTHER_SHAPES = {
  "no channels": (lambda x: x[..., 0], r"\[6, 8, 8\]: pass images\[\.\.\., None\]"),
  "no images": (lambda x: x[:0], r"shape \[0, 8, 8, 3\]"),
  "no pixels": (lambda x: x[:, :0], r"shape \[6, 0, 8, 3\]"),
}


def with_nan(x):
  x[2, 1, 1, 0] = x[4, 0, 0, 0] = np.nan
  return x.astype(np.float32)


def refused(entry, x, folder, message):
  with pytest.raises(UserError, match=message) as raised:
    entry(x, folder)
  assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", [name for name in (*ENTRIES, *TRACED) if name not in UNCHECKED])
@pytest.mark.parametrize("kind", OTHER_TYPES)
def test_another_type_is_refused_with_the_fix(name, kind, tmp_path):
  make, message = OTHER_TYPES[kind]
  refused((ENTRIES | TRACED)[name], make(bytes_of()), tmp_path, message)


@pytest.mark.parametrize("name", [name for name in ENTRIES if name not in UNCHECKED])
@pytest.mark.parametrize("kind", OTHER_VALUES)
def test_another_range_is_refused_where_it_is_known(name, kind, tmp_path):
  make, message = OTHER_VALUES[kind]
  refused(ENTRIES[name], make(bytes_of()), tmp_path, message)


OWN_SHAPE = ("to_float", "Resident", "npz", "FrozenEncoder")  # any, or one that they name


@pytest.mark.parametrize(
  "name", [name for name in (*ENTRIES, *TRACED) if name not in (*UNCHECKED, *OWN_SHAPE)]
)
@pytest.mark.parametrize("kind", OTHER_SHAPES)
def test_another_shape_is_refused(name, kind, tmp_path):
  make, message = OTHER_SHAPES[kind]
  refused((ENTRIES | TRACED)[name], make(bytes_of()), tmp_path, message)


def test_a_frozen_encoder_names_the_missing_axis():
  encoder = FrozenEncoder(ENCODER, *OWN, image_of(1), 0)
  refused(
    lambda x, _: encoder(x), bytes_of(1)[..., 0], None, r"\[6, 8, 8\]: pass images\[\.\.\., N"
  )


@pytest.mark.parametrize("name", ["embed", "fitted", "to_float", "Resident", "views.simclr"])
def test_a_list_is_refused(name, tmp_path):
  refused(ENTRIES[name], bytes_of().tolist(), tmp_path, r"list(: |; )pass np\.asarray")


@pytest.mark.parametrize("name", [*OPERATIONS, *OF_COLORS, *MIXES])
def test_operations_take_floats_of_four_axes(name):
  mix = MIXES.get(name)
  call = (OPERATIONS | OF_COLORS).get(name) or (lambda x: mix(3)(KEY, x, INDEX))
  x = bytes_of()
  cases = {
    "found uint8: pass views.to_float": x,
    "found int32: pass": x.astype(np.int32),
    r"shape \[6, 8, 8\]: pass images\[\.\.\., None\]": (x / 255)[..., 0],
    r"shape \[6, 8\]": (x / 255)[..., 0, 0],
    "found list": x.tolist() if name != "add_noise" and name != "normalize" else None,
  }
  for message, images in cases.items():
    if images is not None:
      refused(lambda x, _: call(x), images, None, f"{name}: images must be .*{message}")


@pytest.mark.parametrize(
  "name", [n for n in (*OPERATIONS, *OF_COLORS) if n not in ("solarize", "to_gray")]
)
def test_the_arguments_of_an_operation_are_one_per_image(name):
  x = (bytes_of() / 255).astype(np.float32)
  operation = (OPERATIONS | OF_COLORS)[name]
  half = jnp.asarray(x[: N // 2])
  if name in ("normalize", "add_noise"):  # a number per channel, per pixel
    wrong = {
      "normalize": lambda x: views.normalize(x, (0.5,), (0.5,)),
      "add_noise": lambda x: views.add_noise(x, x[:1], 0.1),
    }[name]
    refused(lambda x, _: wrong(x), x, None, f"{name}: .* must have the shape")
  else:
    refused(lambda x, _: operation(x), half, None, f"{name}: .* must have the shape .*; found")


@pytest.mark.parametrize("name", [*RECIPES, *MIXES])
def test_an_index_is_an_integer_per_image(name):
  recipe, x = (RECIPES | MIXES)[name](3), (bytes_of() / 255).astype(np.float32)
  for index in (INDEX[:2], INDEX / 2.0, list(INDEX), INDEX[:, None]):
    refused(lambda x, _, index=index: recipe(KEY, x, index), x, None, "index must ")


# What is no image, and random views.


@functools.partial(jax.jit, static_argnums=0)
def evaluated(encoder, params, state, x):
  return encoder.apply(params, state, x, train=False)[0]


def test_inputs_of_fewer_axes_reach_the_encoder_as_they_are():
  """Vectors of any range and type, bytes of texts, and sequences of vectors."""
  rng = np.random.default_rng(0)
  vectors = (100 * rng.normal(size=(N, 5))).astype(np.float32)
  network = encoders.mlp((4,))
  own = jax.jit(network.init)(KEY, vectors)
  for x in (vectors, vectors.astype(np.int32), vectors.astype(np.float64)):
    expected = evaluated(network, *own, jnp.asarray(x))
    chex.assert_trees_all_close(embed(network, *own, x), np.asarray(expected), rtol=1e-5, atol=1e-5)
  texts = rng.integers(1, 256, (N, 7), np.uint8)
  text = encoders.text(8, 1, 2)
  own = jax.jit(text.init)(KEY, texts)
  expected = evaluated(text, *own, jnp.asarray(texts))
  chex.assert_trees_all_close(embed(text, *own, texts), np.asarray(expected), rtol=1e-5, atol=1e-5)
  steps = vectors.reshape(N, 5, 1).repeat(3, 1)
  own = jax.jit(network.init)(KEY, steps)
  assert embed(network, *own, steps).shape == (N, 4)


def test_views_are_embedded_whatever_their_range():
  view = np.asarray(views.affine_jitter(noise=1.0)(KEY, bytes_of(), INDEX))
  assert view.min() < -0.1 and view.max() > 1.1
  found = embed(ENCODER, *OWN, view, bounded=False)
  expected = evaluated(ENCODER, *OWN, view)
  chex.assert_trees_all_close(found, np.asarray(expected), rtol=1e-5, atol=1e-5)
  frozen = FrozenEncoder(ENCODER, *OWN, image_of(3), 0)
  chex.assert_trees_all_close(frozen(view, bounded=False), found)
  refused(lambda x, _: embed(ENCODER, *OWN, x), view, None, "embed: inputs must be uint8, or")
  with pytest.raises(UserError, match="found int32"):  # of any range, but of no other type
    embed(ENCODER, *OWN, bytes_of().astype(np.int32), bounded=False)


@pytest.mark.parametrize("beyond, taken", [(0.005, True), (0.02, False)])
def test_a_rounding_error_beyond_the_range_is_taken(beyond, taken):
  x = np.array([-beyond, 1 + beyond], np.float32).reshape(2, 1, 1, 1)
  if taken:
    chex.assert_trees_all_equal(views.to_float(x), x)
  else:
    refused(lambda x, _: views.to_float(x), x, None, "to_float: images must be")


def test_no_input_is_checked_by_an_assertion():
  """Assertions vanish under `python -O`, and are no UserError."""
  for module in {inspect.getmodule(value) for value in vars(views).values() if callable(value)}:
    source = inspect.getsource(module)
    assert "chex.assert" not in source and "\n  assert " not in source, module.__name__
