"""What does mining cost, and how many of the mined are positives after all?

  python benchmarks/mining.py
  python benchmarks/mining.py --sizes 2000,5000 --seeds 1 --out elsewhere/mining.jsonl    # a trial

Cost: 1,000 queries, a corpus of 100,000 and of 1,000,000 float32 vectors of dimension 256 in a file,
read as a memory map, k = 20, cosine. One process for each arm and size:
  naive      `negatives.mine` without a rule
  share      the same with share = 0.95
  top_k      `pairwise.top_k` of the whole corpus, which then lies in memory: the reference
Seconds of the first call, which compiles, and of the best of two more; the peak of the process'
memory in GB, interpreter and libraries included. Pages of the file that are mapped count there,
though the system takes them back when it needs them; so the peak of what is the process' own
(RssAnon, looked at every 20 ms; Linux only) stands beside it. It is to stay below 1 GB at
either size, and a million vectors are to take less than two minutes.

False negatives: FAMILIES of 10 topics each, a topic with 2 to 40 documents (uniform), dimension 64.
A topic's direction is its family's plus half of its own, a document's or query's is the topic's plus
0.8 (documents) or 0.6 (queries) of noise, all of length 1. For each topic one query, whose one labelled
positive is a document of the topic drawn at random; the others of the topic are what nobody labelled. k = 10
are mined by cosine, seeds 0 to 4.

Hypotheses, on the rate of false negatives among the mined, means over seeds:
  shift      naive > shifted by 10
  positive   shifted by 10 > margin 0.05, and > share 0.95
A rule can also win by mining what is easy: so how many are mined per query, how many of them are of the
query's own family (hard, and rightly negative), and their mean score stand beside it. A hypothesis holds
if the difference, paired by seed, is above two standard errors.

Run it while nothing else runs. Results go to results/mining.jsonl line by line; what stands there
is not measured again. From it results/mining.md is written.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time

import numpy as np

RESULTS = pathlib.Path(__file__).parent / "results" / "mining.jsonl"
QUERIES, D, K, ARMS = 1000, 256, 20, ("naive", "share", "top_k")
FAMILIES, TOPICS, DIM, MINED = 50, 10, 64, 10
RULES = {
  "naive": {},
  "shifted by 5": {"skip": 5},
  "shifted by 10": {"skip": 10},
  "shifted by 20": {"skip": 20},
  "at most 0.8": {"at_most": 0.8},
  "at most 0.7": {"at_most": 0.7},
  "at most 0.6": {"at_most": 0.6},
  "margin 0": {"margin": 0.0},
  "margin 0.05": {"margin": 0.05},
  "margin 0.1": {"margin": 0.1},
  "share 0.98": {"share": 0.98},
  "share 0.95": {"share": 0.95},
  "share 0.9": {"share": 0.9},
  "share 0.8": {"share": 0.8},
}
HYPOTHESES = (
  ("shift", "naive", "shifted by 10"),
  ("positive", "shifted by 10", "margin 0.05"),
  ("positive", "shifted by 10", "share 0.95"),
)


# Cost


def write_corpus(path, size):
  rng = np.random.default_rng(0)
  with open(path, "wb") as file:
    for first in range(0, size, 50_000):
      rng.standard_normal((min(50_000, size - first), D), np.float32).tofile(file)


class Own(threading.Thread):
  """The most memory that was the process' own, in GB; None where the system does not tell."""

  def __init__(self):
    super().__init__(daemon=True)
    self.peak, self.over = None, threading.Event()

  def run(self):
    while not self.over.wait(0.02):
      try:
        lines = pathlib.Path("/proc/self/status").read_text().splitlines()
      except OSError:
        return
      now = next((int(line.split()[1]) for line in lines if line.startswith("RssAnon")), None)
      if now is not None:
        self.peak = max(self.peak or 0, now / 1e6)


def measure_cost(arm: str, size: int, path: str):
  import jax

  from contrastax.negatives.mining import mine
  from contrastax.pairwise import cosine, top_k

  corpus = np.memmap(path, np.float32, "r", shape=(size, D))
  rng = np.random.default_rng(1)
  positives = rng.permutation(size)[:QUERIES]
  queries = corpus[positives] + rng.standard_normal((len(positives), D), np.float32)
  rule = {"share": 0.95} if arm == "share" else {}

  def call():
    if arm == "top_k":
      return top_k(queries, corpus, K, score=cosine())
    return mine(queries, corpus, positives, k=K, **rule)

  watch, seconds = Own(), []
  watch.start()
  for _ in range(3):
    start = time.perf_counter()
    jax.block_until_ready(call())
    seconds.append(time.perf_counter() - start)
  watch.over.set()
  return {
    "kind": "cost", "arm": arm, "size": size, "queries": len(positives),
    "first_seconds": seconds[0], "seconds": min(seconds[1:]), "own_gb": watch.peak,
    "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
  }  # fmt: skip


def in_a_process(arm, size, path):
  done = subprocess.run(
    [sys.executable, __file__, "--one", arm, str(size), path], capture_output=True, text=True
  )
  if done.returncode:
    error = (done.stderr.strip().splitlines() or [f"exit {done.returncode}"])[-1]
    return {"kind": "cost", "arm": arm, "size": size, "stopped": error}
  return json.loads(done.stdout.splitlines()[-1])


# False negatives


def unit(x):
  return x / np.linalg.norm(x, axis=-1, keepdims=True)


def retrieval_set(seed):
  """(queries, documents, the topic of each document, the labelled positive of each query)."""
  rng = np.random.default_rng(seed)

  def direction(n):
    return unit(rng.normal(size=(n, DIM)))

  topics = unit(np.repeat(direction(FAMILIES), TOPICS, 0) + 0.5 * direction(FAMILIES * TOPICS))
  sizes = rng.integers(2, 41, len(topics))
  topic = np.repeat(np.arange(len(topics)), sizes)
  documents = unit(topics[topic] + 0.8 * direction(len(topic)))
  queries = unit(topics + 0.6 * direction(len(topics)))
  positives = np.cumsum(sizes) - sizes + rng.integers(0, sizes)
  return queries, documents, topic, positives


def measure_false_negatives(seed):
  from contrastax.negatives.mining import mine

  queries, documents, topic, positives = retrieval_set(seed)
  own, found = np.arange(len(queries))[:, None], {}
  for name, rule in RULES.items():
    scores, places = (np.asarray(x) for x in mine(queries, documents, positives, k=MINED, **rule))
    there, of = places >= 0, topic[places]
    found[name] = {
      "rate": float((of == own)[there].mean()),
      "mined": float(there.sum(1).mean()),
      "family": float(((of != own) & (of // TOPICS == own // TOPICS))[there].mean()),
      "score": float(scores[there].mean()),
    }
  return {"kind": "false negatives", "seed": seed, "documents": len(documents), "rules": found}


# All


def read(out):
  return [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []


def measure(out, sizes, seeds):
  from experiments.workdir import circumstances

  stand = read(out)
  out.parent.mkdir(parents=True, exist_ok=True)

  def add(record):
    load = os.getloadavg()[0]
    record = {**record, "load_average": load}
    stand.append(record)
    with out.open("a") as file:
      file.write(json.dumps(record) + "\n")
    print(json.dumps(record), flush=True)

  if not any(r["kind"] == "circumstances" for r in stand):
    add({"kind": "circumstances", **circumstances("python benchmarks/mining.py")})
  costs = {(r["arm"], r["size"]) for r in stand if r["kind"] == "cost"}
  for size in sizes:
    todo = [arm for arm in ARMS if (arm, size) not in costs]
    if not todo:
      continue
    with tempfile.TemporaryDirectory() as folder:
      path = str(pathlib.Path(folder) / "corpus")
      write_corpus(path, size)
      for arm in todo:
        add(in_a_process(arm, size, path))
  done = {r["seed"] for r in stand if r["kind"] == "false negatives"}
  for seed in range(seeds):
    if seed not in done:
      add(measure_false_negatives(seed))


def mean_error(values):
  """The mean, and its standard error; 0 of a single one."""
  error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0
  return statistics.mean(values), error


def verdict(runs, higher, lower):
  difference = [r["rules"][higher]["rate"] - r["rules"][lower]["rate"] for r in runs]
  mean, error = mean_error(difference)
  held = "holds" if len(runs) > 1 and mean > 2 * error else "does not hold"
  return f"{held} ({mean:+.3f} ± {error:.3f})"


def table(stand) -> str:
  where = next(r for r in stand if r["kind"] == "circumstances")
  costs = [r for r in stand if r["kind"] == "cost"]
  runs = [r for r in stand if r["kind"] == "false negatives"]
  lines = [
    "# Mining: what it costs, and what it finds", "",
    f"`{where['command']}`, {where['time']}; {where['machine']}; "
    + ", ".join(f"{name} {version}" for name, version in where["versions"].items()) + ".", "",
    f"## Cost: {QUERIES:,} queries, d = {D}, k = {K}", "",
    "A process each; the corpus is a file that is mapped. Its mapped pages count in the peak, and not in what "
    "is the process' own.", "",
    "| corpus | arm | seconds, first call | seconds, best of two more | peak, GB | own, GB | load average |",
    "|---|---|---|---|---|---|---|",
  ]  # fmt: skip
  for r in costs:
    cells = [f"stopped: {r['stopped']}", "", "", ""] if "stopped" in r else [
      f"{r['first_seconds']:.1f}", f"{r['seconds']:.1f}", f"{r['peak_gb']:.2f}",
      "–" if r["own_gb"] is None else f"{r['own_gb']:.2f}",
    ]  # fmt: skip
    lines.append(f"| {r['size']:,} | {r['arm']} | {' | '.join(cells)} | {r['load_average']:.1f} |")
  lines += [
    "", f"## False negatives: {FAMILIES * TOPICS} queries, {MINED} mined for each", "",
    f"Mean over {len(runs)} seeds, ± its standard error; "
    f"{statistics.mean(r['documents'] for r in runs):,.0f} documents.", "",
    "| rule | false negatives among the mined | mined per query | of the own family, rightly negative | mean score |",
    "|---|---|---|---|---|",
  ]  # fmt: skip
  for name in RULES:
    of = {key: mean_error([r["rules"][name][key] for r in runs])
          for key in ("rate", "mined", "family", "score")}  # fmt: skip
    rate, error = of["rate"]
    lines.append(
      f"| {name} | {rate:.3f} ± {error:.3f} | {of['mined'][0]:.1f} | {of['family'][0]:.2f} | "
      f"{of['score'][0]:.2f} |"
    )
  lines += ["", "Hypotheses, with the difference of the rates:", ""]
  lines += [
    f"- {name}: {higher} > {lower}: {verdict(runs, higher, lower)}"
    for name, higher, lower in HYPOTHESES
  ]
  return "\n".join([*lines, ""])


def main():
  parser = argparse.ArgumentParser()
  parser.add_argument("--sizes", default="100000,1000000")
  parser.add_argument("--seeds", type=int, default=5)
  parser.add_argument("--out", type=pathlib.Path, default=RESULTS)
  parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
  told = parser.parse_args()
  if told.one:
    arm, size, path = told.one
    print(json.dumps(measure_cost(arm, int(size), path)))
    return
  measure(told.out, [int(size) for size in told.sizes.split(",")], told.seeds)
  told.out.with_suffix(".md").write_text(table(read(told.out)))
  print(told.out.with_suffix(".md").read_text())


if __name__ == "__main__":
  main()
