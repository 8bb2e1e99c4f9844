"""The verdict on a finished run, and what its user should look at, in plain words."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from contrastax.experiments.paired import Difference, differences
from contrastax.training.health import LEAST_RANK, LEAST_STD, Health

FEW_EXAMPLES = 200
FALLING = 0.05
"""A loss falls at the end if its fall in the last quarter is above this share of its whole fall."""
LEAST_RECORDS = 8
FEW_EPOCHS = 20
"""A run of fewer epochs is short, and the advice names this number."""
SHOWN_FAULTS = 3
COLUMN_NAMES = {
  "knn": "kNN",
  "linear_1": "the probe with 1 label per class",
  "linear_5": "the probe with 5 labels per class",
  "linear": "the linear probe",
}
ROW_NAMES = {
  "start": "the weights that training started from",
  "untrained": "the untrained encoder",
  "raw": "the raw inputs",
}
"""The rows of the table with which the trained encoder is compared, as far as a run has them."""


class Finding(NamedTuple):
  """Something that the user should look at.

  Args:
    fact: what was measured.
    advice: what to do.
  """

  fact: str
  advice: str


def verdict(summary: Mapping[str, Any]) -> list[str]:
  """Returns the verdict on a run, in sentences.

  Args:
    summary: the content of summary.json.
  """
  count, split = summary["examples"]["test"], summary["judged_on"]
  trained = summary["table"].get("trained")
  if trained is None:
    now, before = (summary["geometry"][row] for row in ("trained", "untrained"))
    return [
      *_partners(summary),
      "The data have no labels, so no accuracy can be measured. The report describes the geometry "
      "of the space.",
      f"The effective rank of the embeddings is {_number(now['effective_rank'])}, and that of the "
      f"untrained encoder is {_number(before['effective_rank'])}. The spread is "
      f"{_number(now['embedding_std'])}, where 1 is the spread of a uniform sphere and 0 is a collapse.",
    ]
  sentences = [
    f"A linear probe on the trained encoder's embeddings classifies {_percent(trained['linear'])} of "
    f"the {count:,} {split} examples correctly, and kNN {_percent(trained['knn'])}."
  ]
  for row in ROW_NAMES:
    if row in summary["table"]:
      sentences.append(_compared(summary, row))
  return sentences


def findings(
  summary: Mapping[str, Any],
  config: Mapping[str, Any],
  records: Sequence[Mapping[str, float]],
  processes: Sequence[Mapping[str, Any]],
  faults: Sequence[str] = (),
) -> list[Finding]:
  """Returns what the user should look at.

  Args:
    summary: the content of summary.json.
    config: the completed config.
    records: the records of metrics.jsonl.
    processes: the content of run.json.
    faults: the files of the data that were left out, each with the reason.
  """
  return [
    *_collapse(summary["geometry"]["trained"]),
    *_below(summary, config),
    *_training(config, records),
    *_amounts(summary, config),
    *_left_out(faults),
    *_processes(processes),
  ]


def _partners(summary: Mapping[str, Any]) -> Iterable[str]:
  """Returns the sentence on the retrieval of partners, for a method with two inputs."""
  if "partners" not in summary:
    return
  recall, count = summary["partners"]["recall"], summary["partners"]["examples"]
  name = next(iter(recall["trained"]))
  now, before = (recall[row][name] for row in ("trained", "untrained"))
  if now is not None and before is not None:
    yield (
      f"{name[:1].upper()}{name[1:]} among {count:,} {summary['judged_on']} examples is "
      f"{_percent(now)}, and {_percent(before)} with the untrained networks."
    )


def _compared(summary: Mapping[str, Any], row: str) -> str:
  """Returns the sentence that compares the trained encoder with another row of the table."""
  found = differences(summary, "trained", summary, row)
  better = [name for name, each in found.items() if each.low > 0]
  worse = [name for name, each in found.items() if each.high < 0]
  name = ROW_NAMES[row]
  if better and not worse:
    best = max(better, key=lambda column: found[column].mean)
    return f"It is better than {name}: {COLUMN_NAMES[best]} gains {_interval(found[best])}." + (
      "" if len(better) == len(found) else " " + _unclear(found, better)
    )
  if worse and not better:
    worst = min(worse, key=lambda column: found[column].mean)
    return f"It is worse than {name}: {COLUMN_NAMES[worst]} changes by {_interval(found[worst])}."
  if better and worse:
    return f"It is better than {name} in {_list(better)}, and worse in {_list(worse)}."
  return f"There is no clear difference from {name}: every interval contains 0."


def _unclear(found: Mapping[str, Difference], better: Sequence[str]) -> str:
  rest = [name for name in found if name not in better]
  return f"There is no clear difference in {_list(rest)}."


def _collapse(geometry: Mapping[str, float | None]) -> Iterable[Finding]:
  std, rank = geometry["embedding_std"], geometry["effective_rank"]
  if std is None or rank is None:
    yield Finding(
      "The embeddings of the test examples are not finite.",
      "Look for NaN or infinity in the data, and lower the learning rate.",
    )
  elif std < LEAST_STD or rank < LEAST_RANK:
    yield Finding(
      f"The embeddings have collapsed: their spread is {std:.2g} of a uniform sphere's, and their "
      f"effective rank is {rank:.2f}.",
      "All examples have nearly the same embedding, so the encoder is of no use. Lower the learning "
      "rate, add BatchNorm to the projection, or use more negatives.",
    )
  elif std < 0.1:
    yield Finding(
      f"The embeddings are close to a collapse: their spread is {std:.3f} of a uniform sphere's.",
      "Check that the views of two examples differ, then try a lower learning rate or more negatives.",
    )


def _below(summary: Mapping[str, Any], config: Mapping[str, Any]) -> Iterable[Finding]:
  examples, batch_size = summary["examples"]["trained_on"], config["batch_size"]
  epochs = config["steps"] * batch_size / examples
  short = ""
  if epochs < FEW_EPOCHS:
    short = (
      f"The run was short: {epochs:.2g} epochs. First train for more steps, such as "
      f"--config.steps={math.ceil(FEW_EPOCHS * examples / batch_size)}. If the encoder is still "
      "below after that: "
    )
  for row in ROW_NAMES:
    if row not in summary["table"]:
      continue
    found = differences(summary, "trained", summary, row)
    worse = [name for name, each in found.items() if each.high < 0]
    if worse:
      texts = "; ".join(f"{COLUMN_NAMES[name]} {_interval(found[name])}" for name in worse)
      advice = {
        "start": "Training has made the known weights worse. Lower the learning rate, freeze the first "
        "layers, or train for fewer steps.",
        "untrained": "Training has removed information that the classes depend on. The views may "
        "change what distinguishes the classes, so look at the views below and weaken them; then try "
        "a lower learning rate or more steps.",
        "raw": "The inputs themselves serve the classes better than the encoder does. Train longer, or "
        "use a larger encoder, weaker views, or more data.",
      }[row]
      fact = f"The trained encoder is below {ROW_NAMES[row]}: {texts}."
      yield Finding(fact, f"{short}{advice}" if row == "untrained" else advice)


def _training(
  config: Mapping[str, Any], records: Sequence[Mapping[str, float]]
) -> Iterable[Finding]:
  steps, health = config["steps"], Health(config["steps"])
  for record in records:
    for text in health.warnings(int(record["step"]), record):
      fact, _, advice = text.partition("; ")
      yield Finding(f"Warning during training, {fact}.", _sentence(advice))
  without = [record for record in records if record.get("negatives") == 0]
  if without:
    total = sum("negatives" in record for record in records)
    yield Finding(
      f"In {len(without)} of {total} recorded steps no anchor had a negative.",
      "Check the labels, the relation and its filters, or use larger batches. Steps without negatives "
      "teach nothing if the loss needs them.",
    )
  losses = [(record["step"], record["loss"]) for record in records if "loss" in record]
  fall = falling(losses)
  if fall:
    yield Finding(
      f"The training loss was still falling: {fall:.0%} of its whole fall came in the last quarter of "
      "the run.",
      f"Train longer: the same command with --config.steps={2 * steps} continues from the last "
      "checkpoint.",
    )


def falling(losses: Sequence[tuple[float, float]]) -> float | None:
  """Returns the share of the fall of a loss that came in the last quarter of the steps.

  Args:
    losses: (step, loss) of the records of a run.

  Returns:
    The share, by a line that is fitted to the last quarter. None if the slope is not clear (its t
    statistic is above −3), the share is small, or there are too few records.
  """
  if len(losses) < LEAST_RECORDS:
    return None
  steps, values = np.array(losses, float).T
  last = steps > steps[0] + 0.75 * (steps[-1] - steps[0])
  x, y = steps[last] - steps[last].mean(), values[last] - values[last].mean()
  whole = values[0] - values[-1]
  if last.sum() < 4 or whole <= 0:
    return None
  slope = (x * y).sum() / (x * x).sum()
  error = math.sqrt(((y - slope * x) ** 2).sum() / (last.sum() - 2) / (x * x).sum())
  share = float(-slope * (x[-1] - x[0]) / whole)
  return share if slope < -3 * error and share > FALLING else None


def _amounts(summary: Mapping[str, Any], config: Mapping[str, Any]) -> Iterable[Finding]:
  count, examples = summary["examples"]["test"], summary["examples"]["trained_on"]
  if count < FEW_EXAMPLES and summary["table"]:
    half = 0.98 / math.sqrt(count)
    yield Finding(
      f"There are only {count} {summary['judged_on']} examples.",
      f"An accuracy of {count} examples is known to about ± {half:.2f}, so do not read small "
      "differences. Evaluate on more examples.",
    )
  seen = config["steps"] * config["batch_size"]
  if seen < examples:
    yield Finding(
      f"The run saw {seen:,} examples in all, fewer than the {examples:,} examples of the data.",
      f"Set --config.steps={math.ceil(examples / config['batch_size'])} or more.",
    )
  unknown = [name for name, value in summary["table"].get("trained", {}).items() if value is None]
  if unknown:
    yield Finding(
      f"There is no result of {_list(unknown)}, because a class has too few labeled examples.",
      "Label more examples of the rare classes, or merge these classes.",
    )
  if config["validation"]:
    yield Finding(
      f"The run was evaluated on {count:,} held-out training examples, not on the test examples.",
      "This is right for choosing a config. For the final result, run once with "
      "--config.validation=0 in another --workdir.",
    )


def _left_out(faults: Sequence[str]) -> Iterable[Finding]:
  if not faults:
    return
  files = (
    "1 file of the data was" if len(faults) == 1 else f"{len(faults):,} files of the data were"
  )
  more = len(faults) - SHOWN_FAULTS
  shown = "; ".join(faults[:SHOWN_FAULTS]) + (f"; and {more:,} more" if more > 0 else "")
  yield Finding(
    f"{files} left out, because they cannot be decoded.",
    f"They are: {shown}. Repair them or remove them.",
  )


def _processes(processes: Sequence[Mapping[str, Any]]) -> Iterable[Finding]:
  versions = [process.get("versions") for process in processes]
  if any(each != versions[0] for each in versions):
    yield Finding(
      "The run was resumed with other versions of its libraries.",
      "Its result need not be that of an uninterrupted run. The versions are listed below.",
    )
  if any(str(process.get("commit") or "").endswith("-dirty") for process in processes):
    yield Finding(
      "The code had changes that were not committed, so the commit does not identify it.",
      "Commit the changes before a run that others should be able to repeat.",
    )


def _interval(difference: Difference) -> str:
  return (
    f"{100 * difference.mean:+.1f} points (95 % interval {100 * difference.low:+.1f} to "
    f"{100 * difference.high:+.1f})"
  )


def _percent(value: float) -> str:
  return f"{100 * value:.1f} %"


def _number(value: float | None) -> str:
  return "not finite" if value is None else f"{value:.3g}"


def _list(columns: Sequence[str]) -> str:
  names = [COLUMN_NAMES[column] for column in columns]
  return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _sentence(text: str) -> str:
  return f"{text[:1].upper()}{text[1:]}." if text else ""
