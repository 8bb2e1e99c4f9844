"""The arms of a sweep: `--sweep.KEY=VALUE,VALUE` makes one run for each value."""

from __future__ import annotations

import itertools
import re
import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from contrastax.core import UserError
from contrastax.experiments.overrides import overridden

LONGEST_NAME = 100  # Characters of the name of an arm.


class Arm(NamedTuple):
  """One run of a sweep.

  Args:
    name: the name of its folder.
    swept: {key: text} of the keys that the sweep sets.
    overrides: {key: text} of all keys that the command line sets.
    config: the completed config.
  """

  name: str
  swept: dict[str, str]
  overrides: dict[str, str]
  config: ConfigDict


def arms_of(
  given: Mapping[str, Any], overrides: Mapping[str, str], sweep: Mapping[str, str]
) -> tuple[Arm, ...]:
  """Returns the arms of the grid of a sweep, in the order of the values.

  Raises:
    UserError: a value is invalid, missing or given twice, or a key must not be swept.
  """
  for key in sweep:
    if key in ("data", "data.name", "validation"):
      raise UserError(
        f"--sweep.{key} gives runs that are evaluated on different examples, so they cannot be "
        f"compared; set --config.{key}, and make one sweep for each value"
      )
    if key in overrides:
      raise UserError(f"--sweep.{key} and --config.{key} set the same key; give one of them")
  values = {key: split_values(text) for key, text in sweep.items()}
  for key, texts in values.items():
    if not all(texts):
      raise UserError(f"--sweep.{key}={sweep[key]}: a value is empty; write VALUE,VALUE")
  arms: list[Arm] = []
  for texts in itertools.product(*values.values()):
    swept = dict(zip(values, texts, strict=True))
    own = {**overrides, **swept}
    arm = Arm(arm_name(swept), swept, own, ConfigDict(overridden(given, own)))
    for other in arms:
      if other.config == arm.config:
        raise UserError(f"{other.name} and {arm.name} are the same config; give each value once")
    arms.append(arm)
  return tuple(arms)


def split_values(text: str) -> list[str]:
  """Splits the values of a sweep at the commas outside of brackets and quotes.

  Example:
    >>> from contrastax.experiments.grid import split_values
    >>> split_values("(32,64),(64,128)")
    ['(32,64)', '(64,128)']
  """
  values, depth, quote = [""], 0, ""
  for character in text:
    if quote:
      quote = "" if character == quote else quote
    elif character in "'\"":
      quote = character
    depth += (not quote) * ((character in "([{") - (character in ")]}"))
    if character == "," and not quote and depth == 0:
      values.append("")
    else:
      values[-1] += character
  return [value.strip() for value in values]


def arm_name(swept: Mapping[str, str]) -> str:
  """Returns the name of the folder of an arm, such as `learning_rate=1e-3,temperature=0.1`.

  A name that is long, or that would need other characters, ends with a checksum.
  """
  last = [key.rpartition(".")[2] for key in swept]
  names = [short if last.count(short) == 1 else key for short, key in zip(last, swept, strict=True)]
  pairs = [f"{name}={text}" for name, text in zip(names, swept.values(), strict=True)]
  whole = ",".join(pairs)
  safe = re.sub(r"[^\w.+=,()-]+", "_", whole)[:LONGEST_NAME]
  return safe if safe == whole else f"{safe}-{zlib.crc32(whole.encode()):08x}"
