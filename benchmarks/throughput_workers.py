"""The processes of benchmarks/throughput.py, one for each arm.

  python -m benchmarks.throughput_workers ARM STEPS

Each line of stdin is answered by a line of JSON: the seconds of a round, or of the parts of our
step.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
import time

import numpy as np

BATCH, SIZE, EXAMPLES, WIDTHS, HEAD = 256, 32, 50_000, (32, 64, 128), (128, 64)
RATE, DECAY, TEMPERATURE = 2e-3, 1e-4, 0.5


def made_images():
  return np.random.default_rng(0).integers(0, 256, (EXAMPLES, SIZE, SIZE, 3), np.uint8)


def our_method(recipe):
  from contrastax import encoders, methods, temperatures

  return methods.SimCLR(
    encoder=encoders.convnet(WIDTHS),
    projection=encoders.projection(widths=HEAD[:1], out=HEAD[1]),
    views=recipe,
    temperature=temperatures.fixed(TEMPERATURE),
  )


def contrastax(steps, wait, reply):
  """Runs the loop as a run does; it waits where it evaluates, between two rounds."""
  import jax
  import optax

  from contrastax import data, training, views

  optimizer = optax.adamw(RATE, weight_decay=DECAY)
  method = our_method(views.simclr(SIZE, strength=0.5, blur=0.0))
  arrays = {"image": made_images()}
  layout = training.sharded(training.make_mesh())
  source = data.Resident(arrays, batch_size=BATCH, sharding=layout)
  parts = Parts(method, optimizer, source.batch(0))
  began = None

  def between(state):
    nonlocal began
    jax.block_until_ready(state)
    if began is not None:
      reply(time.perf_counter() - began)
    while wait() == "parts":
      reply(parts.seconds(steps))
    began = time.perf_counter()
    return {}

  with tempfile.TemporaryDirectory() as folder:
    training.train(
      method, optimizer, source, steps=10**9, workdir=folder, evaluate=between, log_every=20,
      eval_every=steps, checkpoint_every=10**9,
    )  # fmt: skip


class Parts:
  """The programs of which a step consists, each compiled separately, and the bare step itself."""

  def __init__(self, method, optimizer, batch):
    import jax
    import optax

    from contrastax import training
    from contrastax.core import key_for
    from contrastax.networks import Net

    self._step = training.make_train_step(method, optimizer)
    self._state = training.init(method, optimizer, batch)
    own = training.init(method, optimizer, batch)  # not consumed by a step
    key = key_for(0, "parts")
    self._batch = batch

    def drawn(batch):
      return Net(method, {}, {}, key).views(method.views, batch, method.input)

    def forward(name, params, xs):
      net = Net(method, {name: params}, own.state, key)
      return net(name, xs), net.state[name]

    def encode(params, xs):
      return forward("encoder", params, xs)

    def encode_both(params, xs, cotangents):
      out, back, state = jax.vjp(lambda params: encode(params, xs), params, has_aux=True)
      return out, back(cotangents), state

    def project(params, hs):
      return forward("projection", params, hs)

    def project_both(params, hs, cotangents):
      out, back, state = jax.vjp(project, params, hs, has_aux=True)
      return out, back(cotangents), state

    def loss(zs):
      of_term = own.params["terms"]["contrast"], own.state["terms"]["contrast"]
      seen = {"projection": zs, "batch": {"index": batch["index"]}, "examples": 0}
      value, *more = method.main(*of_term, seen, key)
      return value, more

    def update(grads, opt_state, params):
      updates, opt_state = optimizer.update(grads, opt_state, params)
      return optax.apply_updates(params, updates), opt_state, optax.tree.norm(grads)

    encoder, projection = own.params["encoder"], own.params["projection"]
    xs = jax.jit(drawn)(batch)
    hs, _ = jax.jit(encode)(encoder, xs)
    zs, _ = jax.jit(project)(projection, hs)
    programs = {
      "views": (drawn, (batch,)),
      "encoder forward": (encode, (encoder, xs)),
      "encoder both": (encode_both, (encoder, xs, hs)),  # any cotangents do
      "projection both": (project_both, (projection, hs, zs)),
      "loss both": (jax.value_and_grad(loss, has_aux=True), (zs,)),
      "optimiser": (
        update,
        (own.params, own.opt_state, own.params),
      ),  # the spelling of the committed records
    }
    self._programs = {name: (jax.jit(call), given) for name, (call, given) in programs.items()}

  def seconds(self, steps):
    """Returns {part: seconds of one call}: the mean of `steps` calls after one untimed call."""
    import jax

    def bare():
      self._state, metrics = self._step(self._state, self._batch)
      return self._state, metrics

    calls = {"step": bare}
    for name, (program, given) in self._programs.items():
      calls[name] = lambda program=program, given=given: program(*given)
    found = {}
    for name, call in calls.items():
      jax.block_until_ready(call())
      start = time.perf_counter()
      for _ in range(steps):
        out = call()
      jax.block_until_ready(out)
      found[name] = (time.perf_counter() - start) / steps
    return found


def contrastax_no_views(steps, wait, reply):
  import jax
  import optax

  from contrastax import training

  # Two recipes that select one image of a pair.
  recipes = (lambda key, x, index: x[:, 0], lambda key, x, index: x[:, 1])
  method, optimizer = our_method(recipes), optax.adamw(RATE, weight_decay=DECAY)
  pairs = made_images()[: 2 * BATCH].reshape(BATCH, 2, SIZE, SIZE, 3).astype(np.float32) / 255
  batch = {"image": pairs, "index": np.arange(BATCH)}
  batch = jax.device_put(batch, training.sharded(training.make_mesh()))
  step = training.make_train_step(method, optimizer)
  state = training.init(method, optimizer, batch)
  state, _ = step(state, batch)
  while wait():
    jax.block_until_ready(state)
    start = time.perf_counter()
    for _ in range(steps):
      state, metrics = step(state, batch)
    jax.block_until_ready((state, metrics))
    reply(time.perf_counter() - start)


def torch_step():
  """Returns one step of lightly's example: `step(x0, x1) -> loss`, a detached tensor."""
  with contextlib.suppress(ImportError):
    import torchvision_cpu  # noqa: F401
  import torch
  from lightly.loss import NTXentLoss
  from torch import nn

  layers, channels = [], 3
  for width in WIDTHS:
    conv = nn.Conv2d(channels, width, 3, stride=2, padding=1, bias=False)
    layers += [conv, nn.BatchNorm2d(width), nn.ReLU()]
    channels = width
  hidden, out = HEAD
  head = [nn.Linear(channels, hidden, bias=False), nn.BatchNorm1d(hidden), nn.ReLU()]
  pool = [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
  model = nn.Sequential(*layers, *pool, *head, nn.Linear(hidden, out))
  criterion = NTXentLoss(temperature=TEMPERATURE)
  optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=DECAY)

  def step(x0, x1):
    loss = criterion(model(x0), model(x1))
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    return loss.detach()

  return step


def lightly(steps, wait, reply):
  """Draws views in a DataLoader's workers; it is timed while the queue neither fills nor drains."""
  step = torch_step()
  from lightly.transforms import SimCLRTransform
  from PIL import Image
  from torch.utils.data import DataLoader, Dataset, RandomSampler

  class Images(Dataset):
    """Gives a PIL image of each array to the transform, as torchvision's CIFAR10 does."""

    def __init__(self, transform):
      self._images, self._transform = made_images(), transform

    def __len__(self):
      return len(self._images)

    def __getitem__(self, index):
      return self._transform(Image.fromarray(self._images[index])), 0

  # Without normalization, like ours: this is less work than lightly's own default.
  transform = SimCLRTransform(input_size=SIZE, cj_strength=0.5, gaussian_blur=0.0, normalize=None)
  images, ahead = Images(transform), 8  # twice the four batches that two workers keep ready
  sampler = RandomSampler(images, num_samples=(ahead + steps + ahead) * BATCH)
  loader = DataLoader(
    images, batch_size=BATCH, sampler=sampler, drop_last=True, num_workers=2,
    persistent_workers=True,
  )  # fmt: skip
  while wait():
    total = 0.0
    for i, ((x0, x1), _) in enumerate(loader):
      if i == ahead:
        start = time.perf_counter()
      if i == ahead + steps:
        seconds = time.perf_counter() - start
      total += step(x0, x1)
    reply(seconds)  # only now, when no worker is busy any more


def lightly_one_thread(steps, wait, reply):
  import torch

  torch.set_num_threads(1)
  lightly(steps, wait, reply)


def torch_no_views(steps, wait, reply):
  step = torch_step()
  import torch

  images = torch.from_numpy(made_images()[: 2 * BATCH]).permute(0, 3, 1, 2).float() / 255
  x0, x1 = (half.contiguous() for half in images.chunk(2))
  step(x0, x1)
  while wait():
    start = time.perf_counter()
    for _ in range(steps):
      step(x0, x1)
    reply(time.perf_counter() - start)


def stable_pretraining(steps, wait, reply):
  """Runs its Trainer, which requests a batch from its loader when the step before is done."""
  import jax
  import optax
  import stable_pretraining.jax as spj
  from flax import nnx

  class Network(nnx.Module):
    def __init__(self, rngs):
      self.convolutions, self.norms, channels = nnx.List([]), nnx.List([]), 3
      for width in WIDTHS:
        conv = nnx.Conv(channels, width, (3, 3), strides=2, use_bias=False, rngs=rngs)
        self.convolutions.append(conv)
        self.norms.append(nnx.BatchNorm(width, rngs=rngs))
        channels = width

    def __call__(self, x):
      for conv, norm in zip(self.convolutions, self.norms, strict=True):
        x = jax.nn.relu(norm(conv(x)))
      return x.mean((1, 2))

  rngs = nnx.Rngs(0)
  model = spj.SimCLR(
    backbone=Network(rngs), embed_dim=WIDTHS[-1], rngs=rngs, projector_dims=HEAD,
    temperature=TEMPERATURE, optim=optax.adamw(RATE, weight_decay=DECAY),
    transform=spj.augment.two_view_transform(SIZE, normalize_output=False),
  )  # fmt: skip
  images, rng = made_images().astype(np.float32) / 255, np.random.default_rng(0)

  def batches():
    order, place = rng.permutation(EXAMPLES), 0

    def batch():
      nonlocal order, place
      if place + BATCH > EXAMPLES:
        order, place = rng.permutation(EXAMPLES), 0
      place += BATCH
      return {"image": images[order[place - BATCH : place]]}

    yield batch()
    while wait():
      start = time.perf_counter()
      for _ in range(steps):
        yield batch()
      reply(time.perf_counter() - start)

  spj.Trainer(max_epochs=1, enable_validation=False).fit(model, batches())


WORKERS = {
  "contrastax": contrastax, "lightly": lightly, "lightly, one thread": lightly_one_thread,
  "stable-pretraining": stable_pretraining, "contrastax, no views": contrastax_no_views,
  "torch, no views": torch_no_views,
}  # fmt: skip


def main(arm, steps):
  answers = os.fdopen(os.dup(1), "w", buffering=1)
  os.dup2(2, 1)  # what libraries print is no answer

  def wait():
    line = sys.stdin.readline().strip()
    if not line:
      raise EOFError
    return line

  with contextlib.suppress(EOFError):
    WORKERS[arm](int(steps), wait, lambda value: answers.write(json.dumps(value) + "\n"))


if __name__ == "__main__":
  main(*sys.argv[1:])
