"""The examples of a data set as inputs of a loaded encoder, and their embeddings part by part."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import numpy as np

from contrastax import data
from contrastax.core import UserError, named_leaves
from contrastax.data.columns import Column
from contrastax.evaluation.embed import count_rows
from contrastax.evaluation.transfer import fitted
from contrastax.labels import NONE
from contrastax.paths import fields as fields_of
from contrastax.training.inputs import is_image, is_text, with_length
from contrastax.training.load import FrozenEncoder

PART_BYTES = 2**26
"""The largest size of the inputs of one part in memory, unless a single batch is larger."""
PART_ROWS = 8192
"""The largest number of rows of one part."""


class Part(NamedTuple):
  """Successive examples of a data set.

  Args:
    start: the number of the first example, among all splits.
    inputs: their inputs, as arrays or columns, not yet converted to those of the encoder.
  """

  start: int
  inputs: Any


@dataclasses.dataclass(frozen=True, eq=False)
class Rows:
  """The examples of a data set: those of its training split, then those of its test split.

  Args:
    splits: {"train" or "test": the inputs of its examples}.
    names: the name of each example: that of its file, else its number.
    label: the class of each example, int32 [n], where −1 means no label, or None.
    classes: the name of each class.
  """

  splits: Mapping[str, Any]
  names: Sequence[str]
  label: np.ndarray | None
  classes: tuple[str, ...]

  def __len__(self) -> int:
    return len(self.names)

  def class_names(self) -> list[str] | None:
    """Returns the name of each example's class, "" without a label; None without labels."""
    if self.label is None:
      return None
    return ["" if i == NONE else self.classes[i] for i in self.label.tolist()]

  def split_names(self) -> list[str] | None:
    """Returns the name of each example's split; None if there is only one."""
    if len(self.splits) == 1:
      return None
    return [name for name, inputs in self.splits.items() for _ in range(count_rows(inputs))]

  def parts(self, batch_size: int) -> list[Part]:
    """Divides the examples into parts, each a multiple of the batch size but the last of a split."""
    parts, first = [], 0
    for inputs in self.splits.values():
      total = count_rows(inputs)
      size = sum(leaf.nbytes for leaf in jax.tree.leaves(inputs)) // total
      most = min(PART_ROWS, PART_BYTES // max(1, size))
      rows = max(1, most // batch_size) * batch_size
      for start in range(0, total, rows):
        chosen = slice(start, start + rows)
        part = jax.tree.map(lambda x, chosen=chosen: x[chosen], inputs)
        parts.append(Part(first + start, part))
      first += total
    return parts

  def row(self, number: int) -> Any:
    """Returns the inputs of one example, with an axis of examples."""
    for inputs in self.splits.values():
      total = count_rows(inputs)
      if number < total:
        return jax.tree.map(lambda x, number=number: x[number : number + 1], inputs)
      number -= total
    raise IndexError(number)


def open_rows(run: FrozenEncoder, name: str, field: str | None = None) -> Rows:
  """Opens a data set for an encoder. Images in files are decoded to the encoder's size.

  Args:
    run: the encoder.
    name: the name of the data set, see `data.load`.
    field: the field that is the input. None means the field that the run was trained on, or the only
      one that fits.

  Raises:
    UserError: the data set cannot be opened, or has no such field.
  """
  given: dict[str, Any] = {}
  leaves = jax.tree.leaves(run.inputs)
  images = [leaf.shape for leaf in leaves if is_image(leaf)]
  texts = [leaf.shape[0] for leaf in leaves if is_text(leaf)]
  if images and images[0][2] in (1, 3):
    given |= image_options(name, images[0])
  if texts:
    lengths = {"text_bytes", "code_bytes"} & data.complete(name, {}, name).keys()
    given |= dict.fromkeys(lengths, max(texts))
  dataset = data.read(name, **given)
  names = _field_names(run, name, dataset.train, field)
  splits = {
    split: fields_of(arrays, names, name)
    for split, arrays in (("train", dataset.train), ("test", dataset.test))
    if arrays
  }
  labels = [arrays["label"] for arrays in dataset[:2] if "label" in arrays]
  label = None
  if labels and len(labels) == len(splits) and dataset.classes:
    label = np.concatenate([np.asarray(each) for each in labels])
  total = sum(map(count_rows, splits.values()))
  return Rows(splits, _row_names(splits, total), label, dataset.classes)


def image_options(name: str, shape: tuple[int, ...]) -> dict[str, Any]:
  """Returns the options with which a data set decodes the images in its files to a shape.

  Args:
    name: the name of the data set, see `data.load`.
    shape: (height, width, channels).

  Returns:
    The options that the data set has. There are none for images that are not in files.

  Raises:
    UserError: there is no such data set.
  """
  known = data.complete(name, {}, name)
  wanted = {"size": tuple(shape[:2]), "channels": shape[2]}
  options = {key: value for key, value in wanted.items() if key in known}
  try:
    data.complete(name, options, name)
  except UserError:  # `glyphs` draws squares, which are converted afterwards.
    return {}
  return options


def embedded(
  run: FrozenEncoder, parts: Sequence[Part], batch_size: int
) -> Iterator[tuple[Part, np.ndarray]]:
  """Yields each part with its embeddings, float32 [n, d]. The next part is read meanwhile."""

  def read(part: Part) -> Any:
    return jax.tree.map(fit, run.inputs, part.inputs)

  with ThreadPoolExecutor(1) as thread:
    following = None
    for i, part in enumerate(parts):
      inputs = read(part) if following is None else following.result()
      following = thread.submit(read, parts[i + 1]) if i + 1 < len(parts) else None
      yield part, run(inputs, batch_size=batch_size)


def fit(spec: jax.ShapeDtypeStruct, rows: Any) -> np.ndarray:
  """Reads rows of a field and converts them to inputs of an encoder.

  Images of another size or number of channels are converted by `evaluation.transfer.fitted`. Texts of
  another length are cut, or followed by zeros.
  """
  rows = np.asarray(rows)
  if rows.shape[1:] == spec.shape:
    return rows
  if is_image(spec):
    height, width, channels = spec.shape
    return np.asarray(fitted(rows, (height, width, channels)))
  return with_length(rows, spec.shape[0])


def digest_of(run: FrozenEncoder) -> str:
  """Returns a checksum of an encoder: its architecture, its parameters and its state."""
  spec = json.dumps([run.spec, [str(leaf) for leaf in jax.tree.leaves(run.inputs)]])
  code = hashlib.sha256(spec.encode())
  for name, leaf in named_leaves({"params": run.params, "state": run.state}):
    array = np.ascontiguousarray(leaf)
    code.update(f"{name} {array.dtype} {array.shape}".encode())
    code.update(array.reshape(-1).view(np.uint8).data)
  return code.hexdigest()[:32]


def content_of(inputs: Any) -> bytes:
  """Returns a checksum of inputs. Files are not read, because columns have checksums of them."""
  code = hashlib.sha256()
  for name, leaf in named_leaves(inputs):
    code.update(f"{name} {leaf.dtype} {leaf.shape}".encode())
    values = leaf.codes if isinstance(leaf, Column) else np.ascontiguousarray(leaf)
    code.update(values.reshape(-1).view(np.uint8).data)
  return code.digest()


def _field_names(
  run: FrozenEncoder, name: str, arrays: Mapping[str, Any], field: str | None
) -> str | tuple[str, ...]:
  """Returns the field or the fields of the data that the encoder takes."""
  if isinstance(run.inputs, Mapping):
    return tuple(run.inputs)
  known = [each for each in arrays if each != "label"]
  if field is None and isinstance(run.fields, str) and run.fields in arrays:
    field = run.fields
  if field is None:
    fitting = [each for each in known if _fits(run.inputs, arrays[each])]
    if not fitting:
      raise UserError(
        f"{name} has no field that the encoder can take ({', '.join(known)}); the encoder takes "
        f"{_taken(run.inputs)}"
      )
    if len(fitting) > 1:
      raise UserError(
        f"{name} has several fields that the encoder can take ({', '.join(fitting)}); give one by "
        "--field"
      )
    return fitting[0]
  fields_of(arrays, field, name)
  if not _fits(run.inputs, arrays[field]):
    raise UserError(
      f"{name}: the field {field!r} is {arrays[field].dtype} {list(arrays[field].shape)}; the encoder "
      f"takes {_taken(run.inputs)}"
    )
  return field


def _fits(spec: Any, values: Any) -> bool:
  """Returns whether a field can be converted to the inputs of an encoder."""
  if not isinstance(spec, jax.ShapeDtypeStruct) or isinstance(values, Mapping | tuple):
    return False
  if is_image(spec):
    channels = {values.shape[-1], spec.shape[-1]}
    return values.ndim == 4 and (len(channels) == 1 or channels == {1, 3})
  if is_text(spec):
    return values.ndim == 2 and values.dtype == np.uint8
  return values.shape[1:] == spec.shape and values.dtype.kind == np.dtype(spec.dtype).kind


def _taken(inputs: Any) -> str:
  """Returns what an encoder takes, as text."""
  leaves = [
    f"{leaf.dtype} [n, {', '.join(map(str, leaf.shape))}]" for leaf in jax.tree.leaves(inputs)
  ]
  texts = ", which are texts in UTF-8" if is_text(inputs) else ""
  return " and ".join(leaves) + texts


def _row_names(splits: Mapping[str, Any], total: int) -> Sequence[str]:
  """Returns the names of the files, or numbers. Bytes that are not UTF-8 are written as escapes."""
  columns = [
    [x.names for x in jax.tree.leaves(inputs) if isinstance(x, Column) and x.names is not None]
    for inputs in splits.values()
  ]
  if not all(columns):
    return [str(i) for i in range(total)]
  return [
    os.fsencode(name).decode("utf-8", "backslashreplace")
    for of_split in columns
    for name in of_split[0]
  ]
