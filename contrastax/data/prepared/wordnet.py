"""The data set `wordnet`: the words and the definition of each sense in WordNet."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Iterator
from typing import NamedTuple

from contrastax.core import UserError
from contrastax.data.dataset import Dataset, cut, divide, encode_texts
from contrastax.data.prepared.files import Preparation
from contrastax.data.prepared.packages import debian
from contrastax.data.splits import frequent_classes, new_in_test, one_in

WORD_BYTES, GLOSS_BYTES = 64, 160
HELD_OUT = 10  # One first word in so many is a word of the test examples.
LEAST = 50
# The fields of a line are numbers of these topics, in the order of WordNet's file lexnames.
TOPICS = (
  "adj.all", "adj.pert", "adv.all", "noun.Tops", "noun.act", "noun.animal", "noun.artifact",
  "noun.attribute", "noun.body", "noun.cognition", "noun.communication", "noun.event",
  "noun.feeling", "noun.food", "noun.group", "noun.location", "noun.motive", "noun.object",
  "noun.person", "noun.phenomenon", "noun.plant", "noun.possession", "noun.process",
  "noun.quantity", "noun.relation", "noun.shape", "noun.state", "noun.substance", "noun.time",
  "verb.body", "verb.change", "verb.cognition", "verb.communication", "verb.competition",
  "verb.consumption", "verb.contact", "verb.creation", "verb.emotion", "verb.motion",
  "verb.perception", "verb.possession", "verb.social", "verb.stative", "verb.weather",
  "adj.ppl",
)  # fmt: skip


class Sense(NamedTuple):
  """One sense.

  Args:
    words: its words, of which the first is the most frequent.
    gloss: its definition, without examples.
    topic: its topic, such as "noun.animal".
  """

  words: tuple[str, ...]
  gloss: str
  topic: str


def read(folder: pathlib.Path) -> Dataset:
  """Reads the data set from the unpacked package.

  The fields:

  - `text` [n, length] uint8: the words of a sense, separated by commas, cut to 64 bytes.
  - `gloss` [n, length] uint8: its definition without examples, cut to 160 bytes.
  - `label` [n] int32: its topic, such as "noun.animal".

  A checksum of the first word, in lower case, chooses one word in ten, whose senses are test
  examples. A test example whose words or definition occur in training is left out.

  Args:
    folder: the folder with the files of the package.
  """
  senses = {
    (cut(", ".join(sense.words), WORD_BYTES), cut(sense.gloss, GLOSS_BYTES)): sense
    for kind in ("noun", "verb", "adj", "adv")
    for sense in senses_of(folder / "usr" / "share" / "wordnet" / f"data.{kind}")
  }
  held_out = one_in(HELD_OUT, [sense.words[0].lower() for sense in senses.values()])
  words, glosses = zip(*senses, strict=True)
  remaining = new_in_test(held_out, words, glosses)
  topics = [sense.topic for sense in senses.values()]
  label, classes = frequent_classes(topics, held_out, LEAST)
  arrays = {"text": encode_texts(words), "gloss": encode_texts(glosses), "label": label}
  kept = {name: rows[remaining] for name, rows in arrays.items()}
  return divide(kept, held_out[remaining], classes)


def senses_of(path: pathlib.Path) -> Iterator[Sense]:
  """Yields the senses of a file `data.POS`, whose format wndb(5WN) describes.

  Raises:
    UserError: a line has another format.
  """
  for number, line in enumerate(path.read_text(encoding="latin-1").splitlines(), 1):
    if line.startswith(" "):  # the license
      continue
    try:
      record, gloss = line.split(" | ", 1)
      _, topic, _, count, *rest = record.split()
      words = [rest[2 * i] for i in range(int(count, 16))]
      # An adjective may have a marker of its place, such as galore(ip).
      plain = (re.sub(r"\((a|p|ip)\)$", "", word).replace("_", " ") for word in words)
      yield Sense(tuple(plain), re.split(r';\s*"', gloss)[0].strip(), TOPICS[int(topic)])
    except (IndexError, ValueError):
      raise UserError(f"{path.name}: line {number} is not in the format of WordNet 3.0") from None


WORDNET = Preparation(debian("wordnet-base"), read, "WordNet 3.0 license (permissive)")
