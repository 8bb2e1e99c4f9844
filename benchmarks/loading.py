"""Time to open a folder, to decode its images, and to feed a train step.

  pip install torch torchvision lightly      (in an environment of its own)
  python -m benchmarks.loading --peer-python=/path/of/that/environment/bin/python

Three measurements, in a temporary folder:

  open    100,000 JPEG files of 32×32 pixels in ten subfolders: the first call without decoding
          (`verify=False`), a call that decodes every file once, and a call that finds nothing
          changed.
  decode  5,000 JPEG files of 500×375 pixels, shuffled, in batches of 256, to 64 and to 224 pixels:
          `data.Stream` with two threads beside the data loaders of torchvision and lightly with two
          worker processes. Each is a process of its own, which waits while another measures. At 64
          pixels, our rule lets libjpeg reduce the image while it decodes; "full size" is our stream
          without that.
  feed    SimCLR with a ConvNet on 20,000 images of 32×32 pixels, in batches of 256: `training.train`
          from ArrayRecord shards, beside the same loop with `data.Resident`, in turn.

When it counts: a reopened folder in at most 60 s; decoded images per second at least those of the
better peer; the loop from shards at most 1.05 of the loop on resident data. Run it while nothing
else runs. Writes results/loading.jsonl and, from it, results/loading.md.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import pathlib
import sys
import tempfile
import time

import numpy as np
from PIL import Image, JpegImagePlugin

from benchmarks.common import Worker, quartiles, ratios, versions
from contrastax.experiments.workdir import circumstances
from studies.common.records import Records, append, read
from studies.common.report import table

RESULTS = pathlib.Path(__file__).parent / "results" / "loading.jsonl"
FILES, PHOTOS, IMAGES, BATCH = 100_000, 5_000, 20_000, 256
SIZES = (64, 224)
PEERS = ("torchvision", "lightly")
STEPS = 40


def photo(seed: int, width: int, height: int) -> bytes:
  """Returns a JPEG file with edges, gradients and noise, about as large as a photograph's."""
  rng = np.random.default_rng(seed)
  coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8))
  pixels = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), np.int16)
  y, x = np.mgrid[0:height, 0:width]
  inside = (x - width * rng.random()) ** 2 + (y - height * rng.random()) ** 2 < (height / 4) ** 2
  pixels = pixels + rng.integers(-12, 13, pixels.shape) + 60 * inside[..., None]
  file = io.BytesIO()
  Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(file, "JPEG", quality=88)
  return file.getvalue()


def write_photos(root: pathlib.Path, count: int, width: int, height: int, distinct: int) -> None:
  """Writes JPEG files into ten subfolders. There are `distinct` different images."""
  contents = [photo(seed, width, height) for seed in range(distinct)]
  for i in range(count):
    folder = root / f"class_{i % 10}"
    if i < 10:
      folder.mkdir(parents=True)
    (folder / f"{i:06d}.jpg").write_bytes(contents[i % distinct] + i.to_bytes(4, "little"))


def worker(arguments: list[str]) -> None:
  """Runs one of our arms: a line of input is a round, and the answer is the time in seconds."""
  from contrastax import data

  kind, *rest = arguments
  if kind == "open":
    for line in sys.stdin:
      start = time.perf_counter()
      files = data.index.index_folder(rest[0], verify=line.strip() == "verify")
      print(json.dumps([time.perf_counter() - start, len(files)]), flush=True)
  elif kind == "decode":
    if rest[2] == "full size":
      JpegImagePlugin.JpegImageFile.draft = lambda *arguments: None
    arrays = data.read(f"folder:{rest[0]}", size=int(rest[1])).train
    source = data.Stream({"image": arrays["image"]}, batch_size=BATCH, threads=2)
    steps = PHOTOS // BATCH
    for number, _ in enumerate(sys.stdin):
      start = time.perf_counter()
      # Steps are left out between two rounds, so that no batch was read before the round.
      first = 2 * steps * number
      for step in range(first, first + steps):
        source.batch(step)["image"].block_until_ready()
      seconds = time.perf_counter() - start
      source.batch(10**9)  # It ends the threads, which would read ahead while another arm measures.
      print(json.dumps([seconds, steps * BATCH]), flush=True)
  else:
    feed(rest[0])


def feed(folder: str) -> None:
  """Times the loop from shards and from resident data, in turn, in one process."""
  import optax

  from contrastax import data, encoders, methods, training, views

  arrays = data.load(f"arrayrecord:{folder}").train
  method = methods.SimCLR(
    encoder=encoders.convnet((32, 64, 128)),
    projection=encoders.projection((128,), out=64),
    views=views.simclr(32, strength=0.5, blur=0.0),
  )
  optimizer = optax.adamw(1e-3)
  step = training.make_train_step(method, optimizer)
  sources = {
    "shards": data.Stream(arrays, batch_size=BATCH),
    "resident": data.Resident(arrays, batch_size=BATCH),
  }
  states = {
    name: training.init(method, optimizer, source.batch(0)) for name, source in sources.items()
  }
  places = dict.fromkeys(sources, 0)
  for _ in sys.stdin:
    seconds = {}
    for name, source in sources.items():
      # The queue of the stream was filled while the other loop ran, so its first batches are free.
      for warm in (True, False):
        start = time.perf_counter()
        for place in range(places[name], places[name] + (8 if warm else STEPS)):
          states[name], metrics = step(states[name], source.batch(place))
        metrics["loss"].block_until_ready()
        places[name] = place + 1
        seconds[name] = time.perf_counter() - start
    print(json.dumps(seconds), flush=True)


def measure(rounds: int, peer_python: str) -> None:
  load = os.getloadavg()[0]
  RESULTS.unlink(missing_ok=True)
  with tempfile.TemporaryDirectory() as temporary:
    root = pathlib.Path(temporary)
    own = {"JAX_PLATFORMS": "cpu", "XDG_CACHE_HOME": str(root / "cache")}
    for words in (["first"], ["verify"], ["again"]):
      if words == ["first"]:
        write_photos(root / "many", FILES, 32, 32, 1000)
      arm = Worker(["-m", "benchmarks.loading", "worker", "open", str(root / "many")], **own)
      seconds, count = arm.ask("verify" if words == ["verify"] else "fast")
      arm.end()
      append(RESULTS, {"kind": "open", "call": words[0], "seconds": seconds, "files": count})
      print(words, seconds, flush=True)

    write_photos(root / "photos", PHOTOS, 500, 375, 500)
    for size in SIZES:
      base = ["-m", "benchmarks.loading", "worker", "decode", str(root / "photos"), str(size)]
      arms = {
        "contrastax": Worker([*base, ""], **own),
        "contrastax, full size": Worker([*base, "full size"], **own),
      }
      script = str(pathlib.Path(__file__).with_name("loading_peers.py"))
      for name in PEERS:
        arguments = [script, name, str(root / "photos"), str(size), "2"]
        arms[name] = Worker(arguments, python=peer_python, OMP_NUM_THREADS="1")
      for number in range(-1, rounds):
        found = {name: arm.ask("round") for name, arm in arms.items()}
        if number >= 0:  # The first round fills caches.
          rates = {name: count / seconds for name, (seconds, count) in found.items()}
          append(RESULTS, {"kind": "decode", "size": size, "round": number, "rates": rates})
          print(size, rates, flush=True)
      for arm in arms.values():
        arm.end()

    from contrastax.data import Dataset
    from contrastax.data.shards import write_shards

    images = np.random.default_rng(0).integers(0, 256, (IMAGES, 4, 4, 3), np.uint8)
    images = np.repeat(np.repeat(images, 8, 1), 8, 2)
    write_shards(Dataset({"image": images}, {}), root / "shards")
    arm = Worker(["-m", "benchmarks.loading", "worker", "feed", str(root / "shards")], **own)
    for number in range(-1, rounds):
      seconds = arm.ask("round")
      if number >= 0:
        append(RESULTS, {"kind": "feed", "round": number, "seconds": seconds})
        print(seconds, flush=True)
    arm.end()
  about = circumstances(" ".join(["python -m benchmarks.loading", *sys.argv[1:2]]))
  about["versions"] |= versions("grain", "array_record", "pillow") | peer_versions(peer_python)
  append(RESULTS, {"kind": "circumstances", "load_average": load, **about})


def peer_versions(python: str) -> dict[str, str]:
  import subprocess

  code = (
    "import importlib.metadata as m, json; "
    "print(json.dumps({n: m.version(n) for n in ('torch', 'torchvision', 'lightly')}))"
  )
  done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
  return json.loads(done.stdout)


def page(records: Records) -> str:
  (where,) = records.where(kind="circumstances")
  calls = {
    "first": "first call, `verify=False`",
    "verify": "a call that decodes every file once",
    "again": "a call that finds nothing changed",
  }
  opened = [
    [calls[r["call"]], f"{r['files']:,}", f"{r['seconds']:.1f}"] for r in records.where(kind="open")
  ]
  decoded = []
  for size in SIZES:
    rounds = [r["rates"] for r in records.where(kind="decode", size=size)]
    for arm in rounds[0]:
      rates = [r[arm] for r in rounds]
      over = ratios([r["contrastax"] for r in rounds], rates)
      decoded.append([f"{size}", arm, quartiles(rates, ",.0f"), quartiles(over, ".2f")])
  fed = [r["seconds"] for r in records.where(kind="feed")]
  over = ratios([r["shards"] for r in fed], [r["resident"] for r in fed])
  steps = [1000 * r["resident"] / STEPS for r in fed]
  names = ("grain", "array_record", "pillow", "torch", "torchvision", "lightly")
  named = ", ".join(f"{name} {where['versions'][name]}" for name in names)
  return f"""# Opening, decoding and feeding

Measured by `python -m benchmarks.loading`, whose docstring describes the arms. Medians, and quartiles in brackets; ratios are taken
within a round.

## Opening a folder of {FILES:,} files

{table(["call", "files", "seconds"], opened)}

## Decoding {PHOTOS:,} JPEG files of 500×375 pixels

{table(["size", "arm", "images/s", "ours over it"], decoded)}

## Feeding a step from shards

The loop from ArrayRecord shards takes {quartiles(over, ".3f")} of the time of the loop on resident data: {len(fed)} rounds of {STEPS}
steps of SimCLR, batch {BATCH}, 32×32 pixels. A step takes {quartiles(steps, ".0f")} ms.

Load average at the start {where["load_average"]:.1f}; near 0 nothing else ran. {where["machine"]}; {named}.
"""


def main() -> None:
  if sys.argv[1:2] == ["worker"]:
    worker(sys.argv[2:])
    return
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--rounds", type=int, default=7)
  parser.add_argument("--peer-python", required=True)
  options = parser.parse_args()
  measure(options.rounds, options.peer_python)
  RESULTS.with_suffix(".md").write_text(page(read(RESULTS)), encoding="utf-8")


if __name__ == "__main__":
  main()
