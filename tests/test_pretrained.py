"""Others' weights: layouts there and back, activations against NumPy, and what does not fit."""

import functools
import hashlib
import json
import math

import jax
import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from contrastax.core import UserError
from contrastax.encoders import from_nnx, pretrained, resnet, to_torch, vit
from contrastax.encoders.resnet import BasicBlock, Bottleneck, ResNet

KEY = jax.random.key(0)


def network(block, stem):
  def build(x, rngs):
    options = {"bn_groups": 1, "dtype": None, "remat": False, "hidden": ()}
    return ResNet(x.shape[-1], block, (1, 2), stem=stem, width=4, rngs=rngs, **options)

  return from_nnx(build)


ENCODERS = {
  "basic": network(BasicBlock, "imagenet"),
  "bottleneck": network(Bottleneck, "imagenet"),
  "cifar": network(BasicBlock, "cifar"),
  "vit": vit(16, 2, 4, patch=4, positions="learned"),
  "dinov2": vit(16, 2, 4, patch=4, positions="learned", layer_scale=1e-5, registers=3),
  "dinov3": vit(16, 2, 2, patch=4, positions="rope", layer_scale=1e-5, registers=4, epsilon=1e-5),
  "siglip": vit(16, 2, 4, patch=4, positions="learned", pool="attention", gelu="tanh"),
}
IMAGES = np.random.default_rng(0).standard_normal((3, 12, 12, 3)).astype(np.float32)


def like(encoder, x=IMAGES):
  return jax.eval_shape(encoder.init, KEY, x)


def random_weights(encoder, seed=1):
  """Weights in PyTorch's layout; variances are positive."""
  rng = np.random.default_rng(seed)
  trees = jax.tree.map(lambda a: np.zeros(a.shape, np.float32), like(encoder))
  weights = {}
  for name, zeros in to_torch(*trees).items():
    spread = 1 / math.sqrt(max(1, np.prod(zeros.shape[1:]))) if zeros.ndim > 1 else 0.3
    values = spread * rng.standard_normal(zeros.shape)
    weights[name] = (np.exp(values) if name.endswith("running_var") else values).astype(np.float32)
    if zeros.ndim == 1 and name.endswith((".weight", ".gamma")):
      weights[name] += 1
  return weights


def write(path, weights):
  save_file(weights, path)
  return path


def loaded(encoder, weights, path):
  return pretrained(encoder, write(path, weights)).init(KEY, IMAGES)


def refused(encoder, path, x=IMAGES):
  with pytest.raises(UserError) as error:
    pretrained(encoder, path).init(KEY, x)
  message = str(error.value)
  assert message.startswith(f"{path}: ") and "\n" not in message
  return message.removeprefix(f"{path}: ")


# The networks once more, in NumPy, on PyTorch's layout: images [n, c, h, w], kernels [out, in, h, w].


def convolution(x, kernel, stride, pad):
  x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
  n, _, h, w = x.shape
  size = kernel.shape[-1]
  rows, columns = (range(0, side - size + 1, stride) for side in (h, w))
  y = np.zeros((n, len(kernel), len(rows), len(columns)))
  for i, r in enumerate(rows):
    for j, c in enumerate(columns):
      y[:, :, i, j] = np.tensordot(x[:, :, r : r + size, c : c + size], kernel, ((1, 2, 3),) * 2)
  return y


def max_pool(x):
  x = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=-np.inf)
  rows, columns = (range(0, side - 2, 2) for side in x.shape[2:])
  return np.stack(
    [np.stack([x[:, :, r : r + 3, c : c + 3].max((2, 3)) for c in columns], -1) for r in rows], 2
  )


def batch_norm(x, weights, name):
  scale, bias, mean, var = (
    weights[f"{name}.{key}"][:, None, None]
    for key in ("weight", "bias", "running_mean", "running_var")
  )
  return (x - mean) / np.sqrt(var + 1e-5) * scale + bias


def resnet_in_numpy(weights, x, strides, stem):
  """`strides`: of the convolutions of one block, in the stages after the first."""
  x, last = x.transpose(0, 3, 1, 2).astype(np.float64), len(strides)
  x = convolution(x, weights["conv1.weight"], *((2, 3) if stem == "imagenet" else (1, 1)))
  x = np.maximum(batch_norm(x, weights, "bn1"), 0)
  x = max_pool(x) if stem == "imagenet" else x
  for block in ("layer1.0", "layer2.0", "layer2.1"):
    y = x
    for i, stride in enumerate(strides, 1):
      kernel = weights[f"{block}.conv{i}.weight"]
      y = convolution(y, kernel, stride if block == "layer2.0" else 1, kernel.shape[-1] // 2)
      y = batch_norm(y, weights, f"{block}.bn{i}")
      y = np.maximum(y, 0) if i < last else y
    if f"{block}.downsample.0.weight" in weights:
      kernel = weights[f"{block}.downsample.0.weight"]
      x = convolution(x, kernel, 2 if block == "layer2.0" else 1, 0)
      x = batch_norm(x, weights, f"{block}.downsample.1")
    x = np.maximum(x + y, 0)
  return x.mean((2, 3))


def layer_norm(x, weights, name, epsilon=1e-6):
  x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + epsilon)
  return x * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def linear(x, weights, name):
  return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def attention(q, k, v, heads):
  outputs = []
  for h in range(heads):
    one, other, value = (np.split(a, heads, -1)[h] for a in (q, k, v))
    weight = np.exp(one @ other.swapaxes(1, 2) / math.sqrt(one.shape[-1]))
    outputs.append(weight / weight.sum(-1, keepdims=True) @ value)
  return np.concatenate(outputs, -1)


def mlp_in_numpy(x, weights, name, tanh):
  hidden = linear(x, weights, f"{name}.fc1")
  if tanh:
    cdf = (1 + np.tanh(math.sqrt(2 / math.pi) * (hidden + 0.044715 * hidden**3))) / 2
  else:
    cdf = (1 + np.vectorize(math.erf)(hidden / math.sqrt(2))) / 2
  return linear(hidden * cdf, weights, f"{name}.fc2")


def turned(x, heads, rows, columns, others):
  """Queries or keys turned by their places, with one complex number for each pair of channels."""
  n, t, width = x.shape
  d = width // heads
  x = x.reshape(n, t, heads, d)
  pairs = x[..., : d // 2] + 1j * x[..., d // 2 :]
  for r in range(rows):
    for c in range(columns):
      places = ((r + 0.5) / rows * 2 - 1, (c + 0.5) / columns * 2 - 1)
      periods = [100 ** (i / (d / 4)) for i in range(d // 4)]
      angles = np.array([2 * math.pi * place / period for place in places for period in periods])
      pairs[:, others + r * columns + c] *= np.exp(1j * angles)
  return np.concatenate([pairs.real, pairs.imag], -1).reshape(n, t, width)


def vit_in_numpy(weights, x, heads, epsilon=1e-6, tanh=False):
  """timm's VisionTransformer. The names of the weights determine which parts it has."""
  kernel = weights["patch_embed.proj.weight"]
  x = convolution(x.transpose(0, 3, 1, 2).astype(np.float64), kernel, kernel.shape[-1], 0)
  _, _, rows, columns = x.shape
  x = x.reshape(*x.shape[:2], -1).swapaxes(1, 2) + weights["patch_embed.proj.bias"]

  def first(name, x):
    token = weights[name]
    return np.concatenate([np.broadcast_to(token, (len(x), *token.shape[1:])), x], 1)

  if "cls_token" in weights:
    x = first("cls_token", x)
  x = x + weights.get("pos_embed", 0)
  if "reg_token" in weights:
    x = np.concatenate([x[:, :1], first("reg_token", x[:, 1:])], 1)
  for b in range(2):
    block = f"blocks.{b}"
    h = layer_norm(x, weights, f"{block}.norm1", epsilon)
    q, k, v = np.split(linear(h, weights, f"{block}.attn.qkv"), 3, -1)
    if "pos_embed" not in weights:
      q, k = (turned(a, heads, rows, columns, x.shape[1] - rows * columns) for a in (q, k))
    h = linear(attention(q, k, v, heads), weights, f"{block}.attn.proj")
    x = x + h * weights.get(f"{block}.ls1.gamma", 1)
    h = mlp_in_numpy(
      layer_norm(x, weights, f"{block}.norm2", epsilon), weights, f"{block}.mlp", tanh
    )
    x = x + h * weights.get(f"{block}.ls2.gamma", 1)
  x = layer_norm(x, weights, "norm", epsilon)
  if "attn_pool.latent" not in weights:
    return x[:, 0]
  q = linear(weights["attn_pool.latent"], weights, "attn_pool.q")
  k, v = np.split(linear(x, weights, "attn_pool.kv"), 2, -1)
  y = attention(np.broadcast_to(q, (len(x), *q.shape[1:])), k, v, heads)
  y = linear(y, weights, "attn_pool.proj")
  h = layer_norm(y, weights, "attn_pool.norm", epsilon)
  return (y + mlp_in_numpy(h, weights, "attn_pool.mlp", tanh))[:, 0]


REFERENCES = {
  "basic": lambda weights: resnet_in_numpy(weights, IMAGES, (2, 1), "imagenet"),
  "bottleneck": lambda weights: resnet_in_numpy(weights, IMAGES, (1, 2, 1), "imagenet"),
  "cifar": lambda weights: resnet_in_numpy(weights, IMAGES, (2, 1), "cifar"),
  "vit": lambda weights: vit_in_numpy(weights, IMAGES, 4),
  "dinov2": lambda weights: vit_in_numpy(weights, IMAGES, 4),
  "dinov3": lambda weights: vit_in_numpy(weights, IMAGES, 2, epsilon=1e-5),
  "siglip": lambda weights: vit_in_numpy(weights, IMAGES, 4, tanh=True),
}


@pytest.mark.parametrize("kind", ENCODERS)
def test_a_network_with_loaded_weights_computes_what_numpy_does(kind, tmp_path):
  weights = random_weights(ENCODERS[kind])
  encoder = pretrained(ENCODERS[kind], write(tmp_path / "it.safetensors", weights))
  params, state = encoder.init(KEY, IMAGES)
  y, _ = jax.jit(lambda p, s, x: encoder.apply(p, s, x, train=False))(params, state, IMAGES)
  expected = REFERENCES[kind](weights)
  assert np.abs(expected).max() > 0.3 and expected.std(0).max() > 1e-2
  np.testing.assert_allclose(y, expected, atol=2e-5)


@pytest.mark.parametrize("kind", ENCODERS)
def test_there_and_back(kind, tmp_path):
  weights = random_weights(ENCODERS[kind])
  encoder = pretrained(ENCODERS[kind], write(tmp_path / "it.safetensors", weights))
  trees = encoder.init(KEY, IMAGES)
  expected = like(encoder)
  assert jax.tree.map(lambda a: (a.shape, a.dtype), trees) == jax.tree.map(
    lambda a: (a.shape, a.dtype), expected
  )
  again = to_torch(*trees)
  assert set(again) == set(weights)
  for name, array in again.items():
    np.testing.assert_array_equal(array, weights[name])


def test_classifiers_and_counters_are_left_out_and_other_types_converted(tmp_path):
  encoder = ENCODERS["basic"]
  weights = random_weights(encoder)
  more = {
    "fc.weight": np.ones((5, 8), np.float32),
    "fc.bias": np.ones(5, np.float32),
    "bn1.num_batches_tracked": np.array(7),
    "layer1.0.bn1.num_batches_tracked": np.array(7),
  }
  path = write(tmp_path / "it.safetensors", {**weights, **more})
  found = pretrained(encoder, path).init(KEY, IMAGES)
  expected = loaded(encoder, weights, tmp_path / "plain.safetensors")
  jax.tree.map(np.testing.assert_array_equal, found, expected)
  half = {name: a.astype(np.float16) for name, a in weights.items()}
  params, _ = loaded(encoder, half, tmp_path / "half.safetensors")
  assert {leaf.dtype.name for leaf in jax.tree.leaves(params)} == {"float32"}


def test_torchvisions_names_of_a_vision_transformer(tmp_path):
  encoder = ENCODERS["vit"]
  weights = random_weights(encoder)
  theirs = {
    "class_token": "cls_token",
    "conv_proj.weight": "patch_embed.proj.weight",
    "conv_proj.bias": "patch_embed.proj.bias",
    "encoder.pos_embedding": "pos_embed",
    "encoder.ln.weight": "norm.weight",
    "encoder.ln.bias": "norm.bias",
  }
  for i, (first, second) in enumerate([("mlp.0", "mlp.3"), ("mlp.linear_1", "mlp.linear_2")]):
    block = f"encoder.layers.encoder_layer_{i}"
    for end in ("weight", "bias"):
      theirs[f"{block}.ln_1.{end}"] = f"blocks.{i}.norm1.{end}"
      theirs[f"{block}.ln_2.{end}"] = f"blocks.{i}.norm2.{end}"
      theirs[f"{block}.self_attention.in_proj_{end}"] = f"blocks.{i}.attn.qkv.{end}"
      theirs[f"{block}.self_attention.out_proj.{end}"] = f"blocks.{i}.attn.proj.{end}"
      theirs[f"{block}.{first}.{end}"] = f"blocks.{i}.mlp.fc1.{end}"
      theirs[f"{block}.{second}.{end}"] = f"blocks.{i}.mlp.fc2.{end}"
  renamed = {name: weights[ours] for name, ours in theirs.items()}
  renamed["heads.head.weight"] = np.ones((10, 16), np.float32)
  found = loaded(encoder, renamed, tmp_path / "theirs.safetensors")
  expected = loaded(encoder, weights, tmp_path / "ours.safetensors")
  jax.tree.map(np.testing.assert_array_equal, found, expected)
  renamed["encoder.ln.bias"] = np.ones(17, np.float32)
  assert refused(encoder, write(tmp_path / "wrong.safetensors", renamed)) == (
    "encoder.ln.bias has shape (17,), in the encoder (16,); the weights are of another architecture"
  )


# What does not fit.


def zeros(encoder, x=IMAGES):
  trees = jax.tree.map(lambda a: np.zeros(a.shape, np.float32), like(encoder, x))
  return to_torch(*trees)


def test_weights_of_another_architecture(tmp_path):
  narrow, path = {"width": 4}, tmp_path / "it.safetensors"
  bottleneck = write(path, zeros(resnet(50, **narrow)))
  assert refused(resnet(18, **narrow), bottleneck) == (
    "layer1.0.conv1.weight has shape (4, 4, 1, 1), in the encoder (4, 4, 3, 3); "
    "the weights are of another architecture"
  )
  longer = write(path, zeros(resnet(34, **narrow)))
  assert refused(resnet(18, **narrow), longer) == (
    "layer1.2.bn1.bias, of shape (4,), is not a weight of the encoder; "
    "the weights are of another architecture"
  )
  shorter = write(path, zeros(resnet(18, **narrow)))
  assert refused(resnet(34, **narrow), shorter) == (
    "there is no layer1.2.bn1.bias, of shape (4,) in the encoder; "
    "the weights are of another architecture"
  )


def test_positions_of_a_vision_transformer_need_a_place(tmp_path):
  path = write(tmp_path / "it.safetensors", zeros(ENCODERS["vit"]))
  assert refused(vit(16, 2, 4, patch=4), path) == (
    'pos_embed, of shape (1, 10, 16), is not a weight of the encoder; use positions="learned"'
  )
  larger = np.zeros((1, 16, 16, 3), np.float32)
  assert refused(ENCODERS["vit"], path, larger) == (
    "pos_embed has shape (1, 10, 16), in the encoder (1, 17, 16); "
    "the images have another number of patches: use resize_positions=True"
  )


def test_what_is_no_file_of_weights(tmp_path):
  encoder, path = ENCODERS["cifar"], tmp_path / "it.safetensors"
  assert refused(encoder, path) == "no such file"
  write(path, zeros(encoder))
  path.write_bytes(path.read_bytes()[:-10])
  assert refused(encoder, path).startswith("the file is damaged or not a safetensors file (")
  path.write_bytes(b"PK\x03\x04")
  message = refused(encoder, path)
  assert message.startswith("the file is damaged or not a safetensors file (")
  assert "safetensors.torch.save_file(torch.load(path), new)" in message


# The names of other libraries.


def parts_of_qkv(weights, name, names):
  """The three parts of a matrix and a bias of queries, keys and values, under their own names."""
  return {
    f"{part}.{end}": array
    for end in ("weight", "bias")
    for part, array in zip(names, np.split(weights.pop(f"{name}.{end}"), 3), strict=True)
  }


def renamed(weights, table):
  """The weights with other starts of their names."""
  result = {}
  for name, array in weights.items():
    start = max((each for each in table if name.startswith(each)), key=len)
    result[table[start] + name.removeprefix(start)] = array
  return result


def hugging_face_dinov2(weights):
  weights, found = dict(weights), {}
  table = {
    "cls_token": "embeddings.cls_token",
    "reg_token": "embeddings.register_tokens",
    "pos_embed": "embeddings.position_embeddings",
    "patch_embed.proj": "embeddings.patch_embeddings.projection",
    "norm": "layernorm",
  }
  for b in range(2):
    ours, theirs = f"blocks.{b}", f"encoder.layer.{b}"
    names = [f"{theirs}.attention.attention.{each}" for each in ("query", "key", "value")]
    found |= parts_of_qkv(weights, f"{ours}.attn.qkv", names)
    table |= {f"{ours}.{each}": f"{theirs}.{each}" for each in ("norm1", "norm2", "mlp")}
    table[f"{ours}.attn.proj"] = f"{theirs}.attention.output.dense"
    table |= {f"{ours}.ls{i}.gamma": f"{theirs}.layer_scale{i}.lambda1" for i in (1, 2)}
  found["embeddings.mask_token"] = np.ones((1, 16), np.float32)
  return found | renamed(weights, table)


def hugging_face_dinov3(weights, model=""):
  """Its keys have no bias, so the bias of the keys of these weights must be 0."""
  weights, found = dict(weights), {}
  table = {
    "cls_token": "embeddings.cls_token",
    "reg_token": "embeddings.register_tokens",
    "patch_embed.proj": "embeddings.patch_embeddings",
    "norm": "norm",
  }
  for b in range(2):
    ours, theirs = f"blocks.{b}", f"{model}layer.{b}"
    names = [f"{theirs}.attention.{each}_proj" for each in "qkv"]
    found |= parts_of_qkv(weights, f"{ours}.attn.qkv", names)
    assert not found.pop(f"{theirs}.attention.k_proj.bias").any()
    table |= {f"{ours}.{each}": f"{theirs}.{each}" for each in ("norm1", "norm2")}
    table[f"{ours}.attn.proj"] = f"{theirs}.attention.o_proj"
    table[f"{ours}.mlp.fc1"] = f"{theirs}.mlp.up_proj"
    table[f"{ours}.mlp.fc2"] = f"{theirs}.mlp.down_proj"
    table |= {f"{ours}.ls{i}.gamma": f"{theirs}.layer_scale{i}.lambda1" for i in (1, 2)}
  found["embeddings.mask_token"] = np.ones((1, 1, 16), np.float32)
  return found | renamed(weights, table)


def hugging_face_siglip(weights):
  weights = dict(weights)
  found = {
    f"head.attention.in_proj_{end}": np.concatenate(
      [weights.pop(f"attn_pool.q.{end}"), weights.pop(f"attn_pool.kv.{end}")]
    )
    for end in ("weight", "bias")
  }
  found["embeddings.position_embedding.weight"] = weights.pop("pos_embed")[0]
  table = {
    "patch_embed.proj": "embeddings.patch_embedding",
    "norm": "post_layernorm",
    "attn_pool.latent": "head.probe",
    "attn_pool.proj": "head.attention.out_proj",
    "attn_pool.norm": "head.layernorm",
    "attn_pool.mlp": "head.mlp",
  }
  for b in range(2):
    ours, theirs = f"blocks.{b}", f"encoder.layers.{b}"
    names = [f"{theirs}.self_attn.{each}_proj" for each in "qkv"]
    found |= parts_of_qkv(weights, f"{ours}.attn.qkv", names)
    table |= {f"{ours}.norm{i}": f"{theirs}.layer_norm{i}" for i in (1, 2)}
    table[f"{ours}.attn.proj"] = f"{theirs}.self_attn.out_proj"
    table[f"{ours}.mlp"] = f"{theirs}.mlp"
  return {f"vision_model.{name}": a for name, a in (found | renamed(weights, table)).items()}


def published_dinov2(weights):
  """The names of its own code, where the position of the class token is part of the positions."""
  table = {name: name for name in weights} | {"reg_token": "register_tokens"}
  return renamed(weights, table) | {"mask_token": np.ones((1, 16), np.float32)}


def dinov2_in_timm(weights):
  """Here the position of the class token is part of the token itself."""
  cls, positions = weights["cls_token"], weights["pos_embed"]
  return {**weights, "cls_token": cls + positions[:, :1], "pos_embed": positions[:, 1:]}


def published_dinov3(weights):
  """Its code multiplies the bias of queries, keys and values by a mask, which is 0 for the keys."""
  table = {name: name for name in weights} | {"reg_token": "storage_tokens"}
  found = renamed(weights, table)
  for b in range(2):
    name = f"blocks.{b}.attn.qkv.bias"
    found[f"{name}_mask"] = np.repeat(np.float32([1, 0, 1]), 16)
    found[name] = np.where(found[f"{name}_mask"] == 0, np.float32(np.nan), found[name])
  found["rope_embed.periods"] = np.ones(2, np.float32)
  return found | {"mask_token": np.ones((1, 16), np.float32)}


def dinov3_in_timm(weights, bias=False):
  weights = dict(weights)
  for b in range(2):
    q, _, v = np.split(weights.pop(f"blocks.{b}.attn.qkv.bias"), 3)
    if bias:
      weights |= {f"blocks.{b}.attn.q_bias": q, f"blocks.{b}.attn.v_bias": v}
  for b in range(2):
    for i in (1, 2):
      weights[f"blocks.{b}.gamma_{i}"] = weights.pop(f"blocks.{b}.ls{i}.gamma")
  return weights


LAYOUTS = {
  "dinov2 of Hugging Face": ("dinov2", hugging_face_dinov2, ""),
  "dinov2 of its code": ("dinov2", published_dinov2, ""),
  "dinov2 of timm": ("dinov2", dinov2_in_timm, ""),
  "dinov3 of Hugging Face": ("dinov3", hugging_face_dinov3, "blocks.*.attn.qkv.bias, keys"),
  "dinov3 of a later Hugging Face": (
    "dinov3",
    functools.partial(hugging_face_dinov3, model="model."),
    "blocks.*.attn.qkv.bias, keys",
  ),
  "dinov3 of timm, qkvb": (
    "dinov3",
    functools.partial(dinov3_in_timm, bias=True),
    "blocks.*.attn.qkv.bias, keys",
  ),
  "dinov3 of its code": ("dinov3", published_dinov3, "blocks.*.attn.qkv.bias, keys"),
  "dinov3 of timm": ("dinov3", dinov3_in_timm, "blocks.*.attn.qkv.bias, all"),
  "siglip of Hugging Face": ("siglip", hugging_face_siglip, ""),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_names_of_other_libraries(layout, tmp_path):
  kind, convert, absent = LAYOUTS[layout]
  weights = random_weights(ENCODERS[kind])
  for name in [name for name in weights if absent and name.endswith("qkv.bias")]:
    weights[name] = weights[name].copy()
    weights[name][slice(16, 32) if absent.endswith("keys") else slice(None)] = 0
  found = loaded(ENCODERS[kind], convert(weights), tmp_path / "theirs.safetensors")
  y, _ = ENCODERS[kind].apply(*found, IMAGES, train=False)
  expected = loaded(ENCODERS[kind], weights, tmp_path / "ours.safetensors")
  z, _ = ENCODERS[kind].apply(*expected, IMAGES, train=False)
  np.testing.assert_allclose(y, z, atol=1e-6)
  if layout != "dinov2 of timm":
    jax.tree.map(np.testing.assert_array_equal, found, expected)


@pytest.mark.parametrize(
  "prefix",
  ["module.", "model.", "backbone.", "encoder_q.", "module.encoder_q.", "teacher.", "visual.trunk.",
   "student.backbone.", "vision_model.", "teacher.module.backbone."],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["basic", "vit"])
def test_a_prefix_is_removed_and_named(kind, prefix, tmp_path):
  weights = random_weights(ENCODERS[kind])
  named = {prefix + name: array for name, array in weights.items()}
  others = {"queue": np.ones(3, np.float32), "projector.0.weight": np.ones((2, 2), np.float32)}
  path = tmp_path / "theirs.safetensors"
  found = loaded(ENCODERS[kind], named | others, path)
  expected = loaded(ENCODERS[kind], weights, tmp_path / "ours.safetensors")
  jax.tree.map(np.testing.assert_array_equal, found, expected)
  last = max(named)
  del named[last]
  message = refused(ENCODERS[kind], write(path, named))
  assert message.startswith(f"there is no {last.removeprefix(prefix)}, of shape")
  assert message.endswith(f"(the prefix {prefix!r} was removed)")


def test_of_several_networks_one_must_be_chosen(tmp_path):
  query, key = (random_weights(ENCODERS["basic"], seed) for seed in (1, 2))
  both = {f"encoder_q.{name}": a for name, a in query.items()}
  both |= {f"encoder_k.{name}": a for name, a in key.items()}
  path = write(tmp_path / "both.safetensors", both)
  assert refused(ENCODERS["basic"], path) == (
    "the file has the weights of several networks, with the prefixes 'encoder_k.', 'encoder_q.'; "
    "give one of them, such as prefix='encoder_k.'"
  )
  for prefix, weights in (("encoder_q", query), ("encoder_k.", key)):
    found = pretrained(ENCODERS["basic"], path, prefix=prefix).init(KEY, IMAGES)
    for name, array in to_torch(*found).items():
      np.testing.assert_array_equal(array, weights[name])
  with pytest.raises(
    UserError, match="no weight has the prefix 'teacher.'; the first is 'encoder_k"
  ):
    pretrained(ENCODERS["basic"], path, prefix="teacher").init(KEY, IMAGES)


# What the file determines.


SPECS = {
  "resnet18": resnet(18, width=4),
  "resnet34 for CIFAR": resnet(34, width=4, stem="cifar"),
  "resnet50": resnet(50, width=4),
  "vit": vit(192, 2, 3, patch=4, positions="learned", freeze_patches=False),
  "dinov2": vit(192, 1, 3, patch=4, positions="learned", freeze_patches=False, layer_scale=1e-5, registers=4),
  "dinov3": vit(192, 1, 3, patch=4, positions="rope", freeze_patches=False, layer_scale=1e-5, registers=4, epsilon=1e-5),
  "siglip": vit(192, 1, 3, patch=4, positions="learned", freeze_patches=False, pool="attention", gelu="tanh"),
}  # fmt: skip


@pytest.mark.parametrize("kind", SPECS)
def test_the_encoder_follows_from_the_shapes(kind, tmp_path):
  weights = random_weights(SPECS[kind])
  path = write(tmp_path / "it.safetensors", {f"module.{name}": a for name, a in weights.items()})
  found, expected = pretrained(None, path), pretrained(SPECS[kind], path)
  own, others = found.init(KEY, IMAGES), expected.init(KEY, IMAGES)
  jax.tree.map(np.testing.assert_array_equal, own, others)
  y, z = (e.apply(*own, IMAGES, train=False)[0] for e in (found, expected))
  np.testing.assert_array_equal(y, z)


def test_an_encoder_that_does_not_follow_from_the_file(tmp_path):
  path = write(tmp_path / "it.safetensors", random_weights(ENCODERS["vit"]))
  with pytest.raises(UserError, match="attention heads of a ViT of width 16 does not follow"):
    pretrained(None, path)
  write(path, random_weights(ENCODERS["basic"]))
  with pytest.raises(UserError, match=r"a ResNet with \(1, 2\) basic blocks .* give the encoder"):
    pretrained(None, path)
  write(path, {"a": np.ones(2, np.float32)})
  with pytest.raises(UserError, match="are not those of a ResNet or a Vision Transformer"):
    pretrained(None, path)
  with pytest.raises(UserError, match="nothing.safetensors: no such file that determines"):
    pretrained(None, tmp_path / "nothing.safetensors")
  with pytest.raises(UserError, match="there is no file that determines the encoder"):
    pretrained(None, None)
  with pytest.raises(UserError, match="pretrained needs path"):
    pretrained(ENCODERS["basic"])


MEAN, DEVIATION = (0.1, 0.2, 0.3), (0.5, 0.25, 2.0)


def embedded(encoder, images):
  return encoder.apply(*encoder.init(KEY, images), images, train=False)[0]


@pytest.mark.parametrize(
  "where", ["an argument", "metadata", "config.json", "preprocessor_config.json"]
)
def test_the_encoder_normalizes_its_images(where, tmp_path):
  path, plain = tmp_path / "it.safetensors", ENCODERS["cifar"]
  metadata, more = {}, {}
  if where == "an argument":
    more = {"normalization": (MEAN, DEVIATION)}
  elif where == "metadata":
    metadata = {"mean": json.dumps(MEAN), "std": json.dumps(DEVIATION)}
  elif where == "config.json":
    facts = {"pretrained_cfg": {"mean": MEAN, "std": DEVIATION}}
    (tmp_path / where).write_text(json.dumps(facts))
  else:
    (tmp_path / where).write_text(json.dumps({"image_mean": MEAN, "image_std": DEVIATION}))
  save_file(random_weights(plain), path, metadata)
  images = np.random.default_rng(3).random((4, 8, 8, 3)).astype(np.float32)
  normalized = ((images - np.array(MEAN)) / np.array(DEVIATION)).astype(np.float32)
  found = embedded(pretrained(plain, path, **more), images)
  none = pretrained(plain, path, normalization="none")
  np.testing.assert_allclose(found, embedded(none, normalized), atol=1e-5)
  assert np.abs(found - embedded(none, images)).max() > 0.1


@pytest.mark.parametrize(
  "name, mean, deviation",
  [("imagenet", [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]), ("half", 0.5, 0.5)],
)
def test_normalizations_by_name(name, mean, deviation, tmp_path):
  path = write(tmp_path / "it.safetensors", random_weights(ENCODERS["cifar"]))
  images = np.random.default_rng(3).random((4, 8, 8, 3)).astype(np.float32)
  normalized = ((images - np.array(mean)) / np.array(deviation)).astype(np.float32)
  found = embedded(pretrained(ENCODERS["cifar"], path, normalization=name), images)
  np.testing.assert_allclose(
    found, embedded(pretrained(ENCODERS["cifar"], path), normalized), atol=1e-5
  )


@pytest.mark.parametrize(
  "value", ["image_net", (), ((0.5,), (0.0,)), ((0.5, 0.5), (1.0,)), ((np.nan,), (1.0,)), 3]
)
def test_a_wrong_normalization_is_refused(value, tmp_path):
  path = write(tmp_path / "it.safetensors", random_weights(ENCODERS["cifar"]))
  with pytest.raises(UserError, match="normalization must be") as error:
    pretrained(ENCODERS["cifar"], path, normalization=value)
  assert "\n" not in str(error.value)


def test_a_normalization_of_other_channels_is_refused(tmp_path):
  path = write(tmp_path / "it.safetensors", random_weights(ENCODERS["cifar"]))
  encoder = pretrained(ENCODERS["cifar"], path, normalization=((0.5,), (0.5,)))
  with pytest.raises(
    UserError, match="is of 1 channels, but the images have 3; give normalization"
  ):
    encoder.init(KEY, IMAGES)


def test_another_file_is_refused_by_its_checksum(tmp_path):
  encoder, path = ENCODERS["cifar"], tmp_path / "it.safetensors"
  write(path, random_weights(encoder))
  known = hashlib.sha256(path.read_bytes()).hexdigest()
  pretrained(encoder, path, sha256=known.upper()).init(KEY, IMAGES)
  write(path, random_weights(encoder, seed=2))
  with pytest.raises(UserError, match=f"it.safetensors: the file has the checksum .*, not {known}"):
    pretrained(encoder, path, sha256=known).init(KEY, IMAGES)


def test_positions_are_resampled_as_pillow_does(tmp_path):
  weights = random_weights(ENCODERS["vit"])
  path = write(tmp_path / "it.safetensors", weights)
  for rows, columns in ((2, 2), (5, 4), (3, 3)):
    x = np.zeros((1, 4 * rows, 4 * columns, 3), np.float32)
    params, _ = pretrained(ENCODERS["vit"], path, resize_positions=True).init(KEY, x)
    square = weights["pos_embed"][0, 1:].reshape(3, 3, 16)
    channels = [
      np.asarray(Image.fromarray(square[..., i]).resize((columns, rows), Image.Resampling.BICUBIC))
      for i in range(16)
    ]
    expected = np.stack(channels, -1).reshape(rows * columns, 16)
    np.testing.assert_allclose(params["pos_embed"][0, 1:], expected, atol=1e-5)
    np.testing.assert_array_equal(params["pos_embed"][0, 0], weights["pos_embed"][0, 0])


def test_without_a_file_the_weights_are_random_and_the_images_normalized():
  plain = ENCODERS["cifar"]
  encoder = pretrained(plain, None, normalization=(MEAN, DEVIATION))
  own = encoder.init(KEY, IMAGES)
  jax.tree.map(np.testing.assert_array_equal, own, plain.init(KEY, IMAGES))
  normalized = ((IMAGES - np.array(MEAN)) / np.array(DEVIATION)).astype(np.float32)
  found, expected = (
    e.apply(*own, x, train=False)[0] for e, x in ((encoder, IMAGES), (plain, normalized))
  )
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


# Frozen weights.


def test_a_frozen_encoder_has_no_parameters_and_does_not_change(tmp_path):
  path = write(tmp_path / "it.safetensors", random_weights(ENCODERS["cifar"]))
  plain, frozen = (pretrained(ENCODERS["cifar"], path, frozen=each) for each in (False, True))
  params, state = frozen.init(KEY, IMAGES)
  assert params == ()
  y, after = frozen.apply(params, state, IMAGES, key=None, train=True)
  jax.tree.map(np.testing.assert_array_equal, after, state)
  np.testing.assert_array_equal(y, plain.apply(*plain.init(KEY, IMAGES), IMAGES, train=False)[0])
  for name, array in to_torch(params, state).items():
    np.testing.assert_array_equal(array, random_weights(ENCODERS["cifar"])[name])


FROZEN = {
  "resnet": (resnet, {"depth": 8, "stem": "cifar", "width": 4}, ("conv1", "bn1"), "stages"),
  "vit": (
    vit,
    {"width": 16, "depth": 3, "heads": 4, "patch": 4, "positions": "learned", "registers": 2, "layer_scale": 0.1},
    ("patch_embed", "cls_token", "tokens", "pos_embed"),
    "blocks",
  ),
}  # fmt: skip


@pytest.mark.parametrize("count", range(5))
@pytest.mark.parametrize("kind", FROZEN)
def test_the_first_layers_of_an_encoder_are_frozen(kind, count, tmp_path):
  make, arguments, first, numbered = FROZEN[kind]
  plain, partly = make(**arguments), make(**arguments, frozen_layers=count)
  path = write(tmp_path / "it.safetensors", random_weights(plain))
  params, state = pretrained(partly, path).init(KEY, IMAGES)
  whole = pretrained(plain, path).init(KEY, IMAGES)
  left = set(params.get(numbered, {}))
  assert left == {str(i) for i in range(max(0, count - 1), 3)}
  assert not count or not set(params) & set(first)
  names = to_torch(params, state).keys()
  assert names == to_torch(*whole).keys()
  y, _ = partly.apply(params, state, IMAGES, key=None, train=False)
  z, _ = plain.apply(*whole, IMAGES, key=None, train=False)
  np.testing.assert_allclose(y, z, atol=1e-6)
  _, after = partly.apply(params, state, IMAGES, key=None, train=True)
  moved = {
    name
    for (name, old), new in zip(
      to_torch({}, state).items(), to_torch({}, after).values(), strict=True
    )
    if (old != new).any()
  }
  statistics = {name for name in names if "running" in name}
  frozen = ("bn1.", *(f"layer{i}." for i in range(1, count)))
  assert moved == {name for name in statistics if not (count and name.startswith(frozen))}


@pytest.mark.parametrize("count", [-1, 5, True, 1.0])
def test_a_wrong_number_of_frozen_layers_is_refused(count):
  for make, arguments, _, _ in FROZEN.values():
    with pytest.raises(UserError, match="frozen_layers must be an integer from 0 to 4"):
      make(**arguments, frozen_layers=count)
