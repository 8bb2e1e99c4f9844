"""What public implementations compute: the records of `tests/golden/`.

An .npz holds arrays, and `meta`, a JSON text: `about`, and `records`. A record says whose
code it is (`source`: package and version, or repository, commit and file), in what
`precision` that code ran, whether it `normalises` inside, its `params`, and which arrays
are its inputs, its value and its gradients.
"""

import json
import pathlib

import numpy as np

_FOLDER = pathlib.Path(__file__).parent / "golden"


def records(name, loss=None):
  """The records of `golden/NAME.npz`, those of one loss or all, with their arrays in place."""
  arrays = np.load(_FOLDER / f"{name}.npz")
  for record in json.loads(str(arrays["meta"]))["records"]:
    if loss in (None, record["loss"]):
      for field in ("inputs", "grads"):
        record[field] = {argument: arrays[key] for argument, key in record[field].items()}
      yield {**record, "value": arrays[record["value"]]}


def tangent(gradient, unit):
  """What remains of gradients at unit vectors [n, d] if the code had normalized them itself."""
  return gradient - (gradient * unit).sum(1, keepdims=True) * unit
