"""The data set `debian_packages`: short and long descriptions of the packages of Debian."""

from __future__ import annotations

import hashlib
import pathlib
import re
from collections.abc import Iterator, Mapping

import numpy as np

from contrastax.core import UserError
from contrastax.data.dataset import Dataset, cut, divide, encode_texts
from contrastax.data.prepared.files import Preparation
from contrastax.data.prepared.packages import AS_USER, run
from contrastax.data.splits import frequent_classes, new_in_test, one_in

TEXT_BYTES, DESCRIPTION_BYTES = 80, 512
HELD_OUT = 10  # One source package in so many has the test examples.
LEAST = 50
INDEXES = {"packages": "Created-By: Packages", "translations": "Created-By: Translations"}
# apt-get reads this in place of the user's folders. Debian's images for containers switch the
# translations off, which contain the long descriptions.
CONFIG = """
#clear Acquire::Languages;
Acquire::Languages {{ "en"; }};
Dir::State::lists "{folder}/lists";
Dir::Cache "{folder}/cache";
Dir::Etc::sourceparts "{folder}/none";
Dir::Etc::sourcelist "{folder}/sources.list";
"""


def fetch(folder: pathlib.Path) -> dict[str, str]:
  """Downloads the index of Debian's section main, with the long descriptions in English.

  The files `packages` and `translations` are written. Nothing on the system is changed.

  Args:
    folder: an empty folder.

  Returns:
    {release: the SHA-256 of its signed index}.

  Raises:
    UserError: the system is not Debian, or the download fails.
  """
  sources = run(
    "apt-get", "indextargets", "--format", "$(SITE) $(RELEASE)", INDEXES["packages"],
    "Origin: Debian", "Label: Debian", "Component: main", folder=folder,
  ).splitlines()  # fmt: skip
  whole = [source for source in sources if "-" not in source.split()[-1]]  # without updates
  if not whole:
    raise UserError(
      "debian_packages needs apt-get with a source of Debian's main packages; run it on Debian, for "
      "example in a container"
    )
  site, release = whole[0].split()
  keys = "[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]"
  for name in ("lists/partial", "cache/archives/partial", "none"):
    (folder / name).mkdir(parents=True)
  (folder / "sources.list").write_text(f"deb {keys} {site} {release} main\n", encoding="utf-8")
  (folder / "apt.conf").write_text(CONFIG.format(folder=folder), encoding="utf-8")
  own = "-c", "apt.conf", *AS_USER
  run("apt-get", *own, "update", "-qq", folder=folder)
  for name, kind in INDEXES.items():
    listed = run("apt-get", *own, "indextargets", "--format", "$(FILENAME)", kind, folder=folder)
    for path in listed.split():
      text = run("/usr/lib/apt/apt-helper", "cat-file", path, folder=folder)
      (folder / name).write_text(text, encoding="utf-8")
  signed = next((folder / "lists").glob("*Release"))
  return {release: hashlib.sha256(signed.read_bytes()).hexdigest()}


def read(folder: pathlib.Path) -> Dataset:
  """Reads the data set from the files that `fetch` has written.

  The fields:

  - `text` [n, length] uint8: the short description, cut to 80 bytes.
  - `description` [n, length] uint8: the long description, cut to 512 bytes.
  - `label` [n] int32: the section, such as "games".
  - `source` [n] int32: the number of the source package. Packages of one source often have similar
    descriptions, so they are no good negatives of each other: `negatives_differ("source")`.

  A checksum of the source package chooses one in ten, whose packages are test examples. Repeated
  pairs are left out, and so is a test example whose short or long description occurs in training.

  Args:
    folder: the folder.
  """
  long = {
    stanza["Description-md5"]: stanza.get("Description-en", "")
    for stanza in stanzas((folder / "translations").read_text(encoding="utf-8"))
    if "Description-md5" in stanza
  }
  found: dict[tuple[str, str], Mapping[str, str]] = {}
  for stanza in stanzas((folder / "packages").read_text(encoding="utf-8")):
    short, _, description = long.get(stanza.get("Description-md5", ""), "").partition("\n")
    if short and description:
      pair = cut(short, TEXT_BYTES), cut(plain(description), DESCRIPTION_BYTES)
      found.setdefault(pair, stanza)
  if not found:
    raise UserError("the index of Debian has no package with a long description; prepare it again")
  # The version of the source package follows its name in parentheses if it is another one.
  sources = [each.get("Source", each["Package"]).split()[0] for each in found.values()]
  held_out = one_in(HELD_OUT, sources)
  texts, descriptions = zip(*found, strict=True)
  remaining = new_in_test(held_out, texts, descriptions)
  sections = [each.get("Section", "none") for each in found.values()]
  label, classes = frequent_classes(sections, held_out, LEAST)
  arrays = {
    "text": encode_texts(texts),
    "description": encode_texts(descriptions),
    "label": label,
    "source": np.unique(sources, return_inverse=True)[1].astype(np.int32),
  }
  kept = {name: rows[remaining] for name, rows in arrays.items()}
  return divide(kept, held_out[remaining], classes)


def stanzas(text: str) -> Iterator[dict[str, str]]:
  """Yields the stanzas of an index as {field: value}, see deb822(5).

  The lines of a value that continue it are separated by newlines.
  """
  for block in re.split(r"\n{2,}", text):
    stanza: dict[str, str] = {}
    field = ""
    for line in block.split("\n"):
      if line[:1] in (" ", "\t"):
        stanza[field] = f"{stanza.get(field, '')}\n{line[1:]}"
      elif ":" in line:
        field, value = line.split(":", 1)
        stanza[field] = value.strip()
    if stanza:
      yield stanza


def plain(description: str) -> str:
  """Returns a long description on one line. A line with a dot separates its paragraphs."""
  return " ".join(word for line in description.split("\n") if line != "." for word in line.split())


DEBIAN_PACKAGES = Preparation(
  fetch, read, "that of each package; the descriptions are part of Debian's packages"
)
