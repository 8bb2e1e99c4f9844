"""Pairs per second of SimCLR, data and views included: our loop beside peers' on a CPU.

  pip install torch==2.13.0 torchvision==0.28.0 lightly==1.6.0     (in an environment of its own)
  pip install --no-deps stable-pretraining==0.1.8 && pip install loguru omegaconf
  python benchmarks/throughput.py [--rounds 11] [--steps 20]

50,000 made images of 32 px in memory, batches of 256, a network of three 3×3 convolutions of
stride 2 (32, 64, 128 channels; BatchNorm, ReLU, global mean), a head of 128 and 64, NT-Xent at
τ = 0.5, AdamW, float32. Views of ours and lightly's: crop, flip, jitter of strength 0.5, gray.

  contrastax              `training.train` with `data.Resident`, logging every 20 steps
  lightly                 PyTorch's loop with lightly's transform and loss, as in its examples:
                          views made of PIL images by two workers of a DataLoader
  lightly, one thread     the same, the step on one thread, so that the workers have a core
  stable-pretraining      its JAX backend's Trainer and SimCLR, with its own views in the step (no
                          hue, no saturation), on float images that lie ready
  contrastax, no views    our bare step on a batch of float images that lies ready
  torch, no views         PyTorch's step on two batches of views that lie ready

Each arm has a process, which waits while another measures. Rounds go through all of them in turn;
a round is STEPS steps, after others that fill a DataLoader's queue where there is one, so that its
steady state is what is timed. A peer that does not import is left out, and why is told.
Beside each of our rounds the same process times the parts of the step as programs of their own.

When it counts: pairs per second of ours ahead of lightly's, on either number of threads, and of
stable-pretraining's, in the median of the rounds' ratios. Run it while nothing else runs. Where
PyTorch is the CPU's build and torchvision is not, a module `torchvision_cpu` on the path is
imported first, to make it load.

Writes results/throughput.jsonl and, from it, results/throughput.md.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

RESULTS = pathlib.Path(__file__).parent / "results" / "throughput.jsonl"
BATCH, SIZE, EXAMPLES, WIDTHS, HEAD = 256, 32, 50_000, (32, 64, 128), (128, 64)
RATE, DECAY, TEMPERATURE = 2e-3, 1e-4, 0.5
PEERS = ("lightly", "lightly, one thread", "stable-pretraining")


def made_images():
  return np.random.default_rng(0).integers(0, 256, (EXAMPLES, SIZE, SIZE, 3), np.uint8)


# Ours ------------------------------------------------------------------------------------------


def our_method(recipe):
  from contrastax import encoders, methods, temperatures

  return methods.SimCLR(
    encoder=encoders.convnet(WIDTHS),
    projection=encoders.projection(widths=HEAD[:1], out=HEAD[1]),
    views=recipe,
    temperature=temperatures.fixed(TEMPERATURE),
  )


def our_optimizer():
  import optax

  return optax.adamw(RATE, weight_decay=DECAY)


def contrastax(steps, wait, reply):
  """The loop as a run has it; it is held where it evaluates, between two rounds."""
  import jax

  from contrastax import data, training, views

  optimizer = our_optimizer()
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
      method,
      optimizer,
      source,
      steps=10**9,
      workdir=folder,
      evaluate=between,
      log_every=20,
      eval_every=steps,
      checkpoint_every=10**9,
    )


class Parts:
  """The programs that a step is made of, each compiled apart, and the bare step itself."""

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
      "optimizer": (update, (own.params, own.opt_state, own.params)),
    }
    self._programs = {name: (jax.jit(call), given) for name, (call, given) in programs.items()}

  def seconds(self, steps):
    """{part: seconds of one call}, each the mean of `steps` calls after one that is not timed."""
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

  from contrastax import training

  # Two recipes that make nothing: the images come as pairs.
  recipes = (lambda key, x, index: x[:, 0], lambda key, x, index: x[:, 1])
  method, optimizer = our_method(recipes), our_optimizer()
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


# Peers -----------------------------------------------------------------------------------------


def torch_step():
  """One step of lightly's example: `step(x0, x1) -> loss`, a detached tensor."""
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
  """Views of a DataLoader's workers, timed while its queue neither fills nor drains."""
  step = torch_step()
  from lightly.transforms import SimCLRTransform
  from PIL import Image
  from torch.utils.data import DataLoader, Dataset, RandomSampler

  class Images(Dataset):
    """As torchvision's CIFAR10: a PIL image of each array, given to the transform."""

    def __init__(self, transform):
      self._images, self._transform = made_images(), transform

    def __len__(self):
      return len(self._images)

    def __getitem__(self, index):
      return self._transform(Image.fromarray(self._images[index])), 0

  # Not normalized, as ours: that is work less than lightly's own default.
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
    reply(seconds)  # only now, when no worker is at work any more


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
  """Its Trainer, which asks its loader for a batch when the step before is done."""
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
    backbone=Network(rngs),
    embed_dim=WIDTHS[-1],
    rngs=rngs,
    projector_dims=HEAD,
    temperature=TEMPERATURE,
    optim=optax.adamw(RATE, weight_decay=DECAY),
    transform=spj.augment.two_view_transform(SIZE, normalize_output=False),
  )
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
  "contrastax": contrastax,
  "lightly": lightly,
  "lightly, one thread": lightly_one_thread,
  "stable-pretraining": stable_pretraining,
  "contrastax, no views": contrastax_no_views,
  "torch, no views": torch_no_views,
}


# Rounds ----------------------------------------------------------------------------------------


def work(arm, steps):
  """An arm's process: answers each line of stdin with one of JSON, until there is none."""
  answers = os.fdopen(os.dup(1), "w", buffering=1)
  os.dup2(2, 1)  # what libraries print is no answer

  def wait():
    line = sys.stdin.readline().strip()
    if not line:
      raise EOFError
    return line

  def reply(value):
    answers.write(json.dumps(value) + "\n")

  with contextlib.suppress(EOFError):
    WORKERS[arm](steps, wait, reply)


class Arm:
  """A process that measures one arm when asked."""

  def __init__(self, name, steps):
    self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115
    self._process = subprocess.Popen(
      [sys.executable, __file__, "--worker", name, "--steps", str(steps)],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      stderr=self._errors,
      text=True,
      bufsize=1,
      env={**os.environ, "JAX_PLATFORMS": "cpu"},
    )

  def ask(self, what):
    """The answer; raises RuntimeError with the last that the process said where it has ended."""
    with contextlib.suppress(BrokenPipeError):
      self._process.stdin.write(what + "\n")
    line = self._process.stdout.readline()
    if not line:
      self._process.wait()
      self._errors.seek(0)
      said = self._errors.read().strip().splitlines() or [f"exit {self._process.returncode}"]
      raise RuntimeError(said[-1])
    return json.loads(line)

  def end(self):
    with contextlib.suppress(BrokenPipeError):
      self._process.stdin.close()
    try:
      self._process.wait(30)
    except subprocess.TimeoutExpired:
      self._process.kill()


def versions():
  found = {}
  for name in ("torch", "torchvision", "lightly", "stable-pretraining"):
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
      found[name] = importlib.metadata.version(name)
  return found


def measure(rounds, steps):
  """Writes results/throughput.jsonl: a line per round, what was left out, circumstances."""
  from contrastax.experiments.workdir import circumstances

  RESULTS.parent.mkdir(exist_ok=True)
  load = os.getloadavg()[0]
  arms = {}
  with RESULTS.open("w") as file, contextlib.ExitStack() as stack:

    def add(record):
      file.write(json.dumps(record) + "\n")
      file.flush()
      print(json.dumps(record), flush=True)

    for name in WORKERS:  # one after the other, and a round each: imports, compilation, caches
      arm = Arm(name, steps)
      stack.callback(arm.end)
      try:
        arm.ask("round")
        if name == "contrastax":
          arm.ask("parts")
        arms[name] = arm
      except RuntimeError as error:
        add({"kind": "left out", "arm": name, "why": str(error)})
    for r in range(rounds):
      seconds = {name: arm.ask("round") for name, arm in arms.items()}
      parts = arms["contrastax"].ask("parts")
      add({"kind": "round", "round": r, "steps": steps, "seconds": seconds, "parts": parts})
    where = circumstances(" ".join(["python benchmarks/throughput.py", *sys.argv[1:]]))
    where["versions"] |= versions()
    add({"kind": "circumstances", "load_average": load, **where})


def read():
  return [json.loads(line) for line in RESULTS.read_text().splitlines()]


def told(values, form):
  """The median, and the quartiles in brackets."""
  low, middle, high = statistics.quantiles(values, n=4)
  return f"{middle:{form}} ({low:{form}} to {high:{form}})"


def ratios(rounds, arm):
  """Our pairs per second over an arm's, round by round."""
  return [r["seconds"][arm] / r["seconds"]["contrastax"] for r in rounds]


def throughput_table(rounds):
  yield "| arm | pairs/s | our loop's over it |"
  yield "|---|---|---|"
  for arm in rounds[0]["seconds"]:
    rates = [BATCH * r["steps"] / r["seconds"][arm] for r in rounds]
    yield f"| {arm} | {told(rates, ',.0f')} | {told(ratios(rounds, arm), '.2f')} |"


def parts_table(rounds):
  """Programs of their own add up to the step only roughly: the last but one row is the rest."""
  steps, parts = rounds[0]["steps"], [r["parts"] for r in rounds]
  whole = [p["step"] for p in parts]
  loop = [r["seconds"]["contrastax"] / steps for r in rounds]
  columns = {
    "views": [p["views"] for p in parts],
    "encoder, forward": [p["encoder forward"] for p in parts],
    "encoder, backward": [p["encoder both"] - p["encoder forward"] for p in parts],
    "projection, forward and backward": [p["projection both"] for p in parts],
    "loss and metrics, forward and backward": [p["loss both"] for p in parts],
    "optimizer and the gradient's norm": [p["optimizer"] for p in parts],
  }
  columns["what the bare step differs by from their sum"] = [
    step - sum(values) for step, *values in zip(whole, *columns.values(), strict=True)
  ]
  columns["the bare step, one program"] = whole
  columns["the frame: what the loop takes beside the bare step"] = [
    a - b for a, b in zip(loop, whole, strict=True)
  ]
  columns["the loop, data and log included"] = loop
  yield "| part | ms | of the bare step |"
  yield "|---|---|---|"
  for name, values in columns.items():
    shares = [value / step for value, step in zip(values, whole, strict=True)]
    ms = [1000 * value for value in values]
    yield f"| {name} | {told(ms, '.2f')} | {told(shares, '.3f')} |"


def table() -> str:
  stand = read()
  rounds = [r for r in stand if r["kind"] == "round"]
  where = next(r for r in stand if r["kind"] == "circumstances")
  named = ", ".join(
    f"{name} {where['versions'][name]}"
    for name in ("jax", "flax", "torch", "torchvision", "lightly", "stable-pretraining")
    if name in where["versions"]
  )
  notes = [f"Left out: {r['arm']} ({r['why']})." for r in stand if r["kind"] == "left out"]
  bare = {"contrastax, no views", "torch, no views"} & rounds[0]["seconds"].keys()
  if len(bare) == 2:
    each = [r["seconds"]["torch, no views"] / r["seconds"]["contrastax, no views"] for r in rounds]
    notes.append(
      f"Without views, on batches that lie ready, our step makes {told(each, '.2f')} times the "
      "pairs per second of PyTorch's: XLA's convolutions on a CPU beside oneDNN's."
    )
  lines = [
    "# Pairs per second beside peers, on a CPU",
    "",
    f"SimCLR, batch {BATCH}, {SIZE} px, ConvNet {'-'.join(map(str, WIDTHS))}, float32: "
    f"{len(rounds)} rounds of {rounds[0]['steps']} steps of all arms in turn, a process each",
    f"(`{where['command']}`). Medians, and quartiles; ratios are taken within a round.",
    "",
    *throughput_table(rounds),
    "",
    *(line for note in notes for line in (note, "")),
    "When it counts: ahead of lightly and of stable-pretraining. stable-pretraining's views have no "
    "hue and no saturation, and its head no BatchNorm.",
    "",
    "## Where our step's time goes",
    "",
    "Each part as a program of its own, in the loop's process, beside each of its rounds. Backward "
    "is forward and backward less forward.",
    "",
    *parts_table(rounds),
    "",
    f"Load average at the start {where['load_average']:.1f}: near 0 the machine was ours alone. "
    f"{where['machine']}; {named}.",
    "",
  ]
  return "\n".join(lines)


def main() -> int:
  flags = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  flags.add_argument("--rounds", type=int, default=11)
  flags.add_argument("--steps", type=int, default=20)
  flags.add_argument("--worker", choices=WORKERS, help=argparse.SUPPRESS)
  given = flags.parse_args()
  if given.worker:
    work(given.worker, given.steps)
    return 0
  measure(given.rounds, given.steps)
  RESULTS.with_suffix(".md").write_text(table())
  print(RESULTS.with_suffix(".md").read_text())
  rounds = [r for r in read() if r["kind"] == "round"]
  measured = [arm for arm in PEERS if arm in rounds[0]["seconds"]]
  return 0 if all(statistics.median(ratios(rounds, arm)) > 1 for arm in measured) else 1


if __name__ == "__main__":
  sys.exit(main())
