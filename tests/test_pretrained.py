"""Others' weights: layouts there and back, activations against NumPy, and what does not fit."""

import math

import jax
import numpy as np
import pytest
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
    if zeros.ndim == 1 and name.endswith(".weight"):
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


def layer_norm(x, weights, name):
  x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
  return x * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def linear(x, weights, name):
  return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def vit_in_numpy(weights, x, heads):
  kernel = weights["patch_embed.proj.weight"]
  x = convolution(x.transpose(0, 3, 1, 2).astype(np.float64), kernel, kernel.shape[-1], 0)
  x = x.reshape(*x.shape[:2], -1).swapaxes(1, 2) + weights["patch_embed.proj.bias"]
  x = np.concatenate([np.broadcast_to(weights["cls_token"], (len(x), 1, x.shape[-1])), x], 1)
  x = x + weights["pos_embed"]
  for b in range(2):
    q, k, v = np.split(
      linear(layer_norm(x, weights, f"blocks.{b}.norm1"), weights, f"blocks.{b}.attn.qkv"), 3, -1
    )
    outputs = []
    for h in range(heads):
      one, other, value = (np.split(a, heads, -1)[h] for a in (q, k, v))
      weight = np.exp(one @ other.swapaxes(1, 2) / math.sqrt(one.shape[-1]))
      outputs.append(weight / weight.sum(-1, keepdims=True) @ value)
    x = x + linear(np.concatenate(outputs, -1), weights, f"blocks.{b}.attn.proj")
    hidden = linear(layer_norm(x, weights, f"blocks.{b}.norm2"), weights, f"blocks.{b}.mlp.fc1")
    hidden = hidden * 0.5 * (1 + np.vectorize(math.erf)(hidden / math.sqrt(2)))
    x = x + linear(hidden, weights, f"blocks.{b}.mlp.fc2")
  return layer_norm(x, weights, "norm")[:, 0]


REFERENCES = {
  "basic": lambda weights: resnet_in_numpy(weights, IMAGES, (2, 1), "imagenet"),
  "bottleneck": lambda weights: resnet_in_numpy(weights, IMAGES, (1, 2, 1), "imagenet"),
  "cifar": lambda weights: resnet_in_numpy(weights, IMAGES, (2, 1), "cifar"),
  "vit": lambda weights: vit_in_numpy(weights, IMAGES, 4),
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
    "the weights are of another architecture"
  )


def test_what_is_no_file_of_weights(tmp_path):
  encoder, path = ENCODERS["cifar"], tmp_path / "it.safetensors"
  assert refused(encoder, path) == "no such file"
  write(path, zeros(encoder))
  path.write_bytes(path.read_bytes()[:-10])
  assert refused(encoder, path).startswith("the file is damaged or not a safetensors file (")
  path.write_bytes(b"PK\x03\x04")
  assert refused(encoder, path).startswith("the file is damaged or not a safetensors file (")
