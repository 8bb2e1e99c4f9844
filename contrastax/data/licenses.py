"""The licenses of data sets, as far as they are known."""

from __future__ import annotations

import json
import pathlib

from contrastax.core import UserError
from contrastax.data.npz import read_arrays
from contrastax.data.prepared import PREPARED
from contrastax.data.prepared.files import path_of
from contrastax.data.shards import INFO
from contrastax.files import read_json

KNOWN = {
  "digits": "CC BY 4.0 (Optical Recognition of Handwritten Digits, UCI Machine Learning Repository)",
  "glyphs": "Bitstream Vera license (DejaVu fonts), SIL Open Font License (STIX fonts)",
  "docstrings": "Python Software Foundation License",
  "made": "none is needed, because the images are generated",
}


def license_of(name: str) -> str | None:
  """Returns the license of a data set, or None if it is not known.

  Args:
    name: the name of the data set, see `data.load`.

  Example:
    >>> from contrastax.data.licenses import license_of
    >>> license_of("words:glyphs")
    'Bitstream Vera license (DejaVu fonts), SIL Open Font License (STIX fonts)'
    >>> license_of("folder:photos")
  """
  name = name.removeprefix("words:")
  kind, _, place = name.partition(":")
  try:
    if kind == "arrayrecord":
      found = read_json(pathlib.Path(place).expanduser() / INFO, dict).get("license")
    elif name in PREPARED and path_of(name).is_file():
      found = json.loads(str(read_arrays(str(path_of(name)))["about"])).get("license")
    else:
      found = KNOWN.get(kind)
  except (AttributeError, KeyError, OSError, UserError, ValueError):
    return None  # A damaged file does not state a license.
  return found if isinstance(found, str) else None
