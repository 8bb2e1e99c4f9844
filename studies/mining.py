"""What does mining cost, and how many of the mined negatives are positives that nobody labeled?

Run it while nothing else runs.

Cost: 1,000 queries, a corpus of 100,000 and of 1,000,000 float32 vectors of dimension 256 in a
file, read as a memory map, k = 20, cosine. One process for each arm and size:
  naive      `negatives.mine` without a rule
  share      the same with share = 0.95
  top_k      `pairwise.top_k` of the whole corpus, which is then in memory: the reference
Seconds of the first call, which compiles, and of the best of two more; the peak of the process'
memory in GB, interpreter and libraries included. Mapped pages of the file count in the peak, though
the system takes them back when it needs them; so the peak of the process' own memory (RssAnon, read
every 20 ms; Linux only) is given too. The aim is below 1 GB at either size, and below two minutes
for a million vectors.

False negatives: 50 families of 10 topics each, a topic with 2 to 40 documents (uniform), dimension
64. A topic's direction is its family's plus half of its own, a document's or query's is the topic's
plus 0.8 (documents) or 0.6 (queries) of noise, all of length 1. For each topic there is one query,
whose one labeled positive is a document of the topic drawn at random; the topic's other documents
are not labeled. k = 10 negatives are mined by cosine, seeds 0 to 4. A rule can also win by mining
what is easy: so the number mined per query, the share of the query's own family (hard, and rightly
negative), and the mean score are given.

Hypotheses, on the rate of false negatives among the mined; each holds if the difference, paired by
seed, is above two standard errors:
  shift      naive > shifted by 10
  positive   shifted by 10 > margin 0.05, and > share 0.95
"""

from __future__ import annotations

import functools
import json
import os
import pathlib
import resource
import sys
import tempfile
import threading
import time

import jax
import numpy as np

from benchmarks.common import in_a_process
from contrastax.negatives.mining import mine
from contrastax.pairwise import cosine, top_k
from studies.common.report import Verdict, estimate, paired, table
from studies.common.study import Study, grid

QUERIES, D, K, ARMS, SIZES = 1000, 256, 20, ("naive", "share", "top_k"), (100_000, 1_000_000)
FAMILIES, TOPICS, DIM, MINED = 50, 10, 64, 10
RULES = (
  {"naive": {}}
  | {f"shifted by {n}": {"skip": n} for n in (5, 10, 20)}
  | {f"at most {x}": {"at_most": x} for x in (0.8, 0.7, 0.6)}
  | {f"margin {x}": {"margin": float(x)} for x in (0, 0.05, 0.1)}
  | {f"share {x}": {"share": x} for x in (0.98, 0.95, 0.9, 0.8)}
)
HYPOTHESES = (
  ("shift", "naive", "shifted by 10"),
  ("positive", "shifted by 10", "margin 0.05"),
  ("positive", "shifted by 10", "share 0.95"),
)


class Own(threading.Thread):
  """Watches the most memory that is the process' own, in GB; None where there is no /proc."""

  def __init__(self):
    super().__init__(daemon=True)
    self.peak, self.over = None, threading.Event()

  def run(self):
    while not self.over.wait(0.02):
      try:
        lines = pathlib.Path("/proc/self/status").read_text().splitlines()
      except OSError:
        return
      now = next((int(line.split()[1]) for line in lines if line.startswith("RssAnon")), 0)
      self.peak = max(self.peak or 0, now / 1e6)


@functools.cache
def corpus(size: int):
  """Writes a corpus into a temporary file, which lives as long as this process."""
  rng, file = np.random.default_rng(0), tempfile.NamedTemporaryFile()  # noqa: SIM115
  for first in range(0, size, 50_000):
    rng.standard_normal((min(50_000, size - first), D), np.float32).tofile(file)
  file.flush()
  return file


def cost(arm: str, size: int, path: str):
  """Measures one arm in this process."""
  documents = np.memmap(path, np.float32, "r", shape=(size, D))
  rng = np.random.default_rng(1)
  positives = rng.permutation(size)[:QUERIES]
  queries = documents[positives] + rng.standard_normal((len(positives), D), np.float32)
  rule = {"share": 0.95} if arm == "share" else {}
  watch, seconds = Own(), []
  watch.start()
  for _ in range(3):
    start = time.perf_counter()
    if arm == "top_k":
      found = top_k(queries, documents, K, score=cosine())
    else:
      found = mine(queries, documents, positives, k=K, **rule)
    jax.block_until_ready(found)
    seconds.append(time.perf_counter() - start)
  watch.over.set()
  return {
    "queries": len(positives), "first_seconds": seconds[0], "best_seconds": min(seconds[1:]),
    "own_gb": watch.peak, "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
  }  # fmt: skip


def retrieval_set(seed):
  """Returns (queries, documents, the topic of each document, the positive of each query)."""
  rng = np.random.default_rng(seed)

  def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)

  def direction(n):
    return unit(rng.normal(size=(n, DIM)))

  topics = unit(np.repeat(direction(FAMILIES), TOPICS, 0) + 0.5 * direction(FAMILIES * TOPICS))
  sizes = rng.integers(2, 41, len(topics))
  topic = np.repeat(np.arange(len(topics)), sizes)
  documents = unit(topics[topic] + 0.8 * direction(len(topic)))
  queries = unit(topics + 0.6 * direction(len(topics)))
  return queries, documents, topic, np.cumsum(sizes) - sizes + rng.integers(0, sizes)


def false_negatives(seed):
  queries, documents, topic, positives = retrieval_set(seed)
  own, found = np.arange(len(queries))[:, None], {}
  for name, rule in RULES.items():
    scores, places = (np.asarray(x) for x in mine(queries, documents, positives, k=MINED, **rule))
    there, of = places >= 0, topic[places]
    found[name] = {
      "rate": float((of == own)[there].mean()), "mined": float(there.sum(1).mean()),
      "family": float(((of != own) & (of // TOPICS == own // TOPICS))[there].mean()),
      "score": float(scores[there].mean()),
    }  # fmt: skip
  return {"documents": len(documents), "rules": found}


def measure(job):
  load = {"load_average": os.getloadavg()[0]}
  if job["kind"] == "cost":
    return load | in_a_process("studies.mining", job["arm"], job["size"], corpus(job["size"]).name)
  return load | false_negatives(job["seed"])


def report(records):
  yield f"## Cost: {QUERIES:,} queries, d = {D}, k = {K}"
  yield (
    "A process each; the corpus is a file that is mapped. Its mapped pages count in the peak, and "
    "not in the process' own memory."
  )
  rows = []
  for r in records.where(kind="cost"):
    cells = [f"stopped: {r['stopped']}", "", "", ""] if "stopped" in r else [
      f"{r['first_seconds']:.1f}",
      f"{r.get('best_seconds', r['seconds']):.1f}", f"{r['peak_gb']:.2f}",
      "–" if r["own_gb"] is None else f"{r['own_gb']:.2f}",
    ]  # fmt: skip
    rows.append([f"{r['size']:,}", r["arm"], *cells, f"{r['load_average']:.1f}"])
  yield table([
    "corpus", "arm", "seconds, first call", "seconds, best of two more", "peak, GB", "own, GB",
    "load average",
  ], rows)  # fmt: skip
  runs = records.where(kind="false negatives")

  def of(rule, key):
    return runs.values(lambda r: r["rules"][rule][key])

  yield f"## False negatives: {FAMILIES * TOPICS} queries, {MINED} mined for each"
  yield (
    f"Mean over {len(runs)} seeds, ± its standard error; {runs.values('documents').mean():,.0f} "
    "documents."
  )
  yield table(
    ["rule", "false negatives among the mined", "mined per query",
     "of the own family, rightly negative", "mean score"],
    [[rule, f"{estimate(of(rule, 'rate')):.3f}", f"{of(rule, 'mined').mean():.1f}",
      f"{of(rule, 'family').mean():.2f}", f"{of(rule, 'score').mean():.2f}"] for rule in RULES],
  )  # fmt: skip
  for name, higher, lower in HYPOTHESES:
    lead = paired(of(higher, "rate"), of(lower, "rate"))
    yield Verdict(name, f"{higher} less {lower} is {lead:+.3f}", lead.above(2))


STUDY = Study(
  "mining", "Mining: its cost and its false negatives", measure=measure, report=report,
  stages=[
    lambda _: grid(kind=["cost"], size=SIZES, arm=ARMS),
    lambda _: grid(kind=["false negatives"], seed=range(5)),
  ],
)  # fmt: skip

if __name__ == "__main__":  # the process of one arm
  print(json.dumps(cost(sys.argv[1], int(sys.argv[2]), sys.argv[3])))
