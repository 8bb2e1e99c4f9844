"""Files of weights: their checksum, the encoder that they determine, and their normalization."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file

from contrastax.core import UserError
from contrastax.encoders.layouts import architecture, find_prefix, timm_names
from contrastax.files import read_json

Moments = tuple[tuple[float, ...], tuple[float, ...]]
"""The mean and the standard deviation of each channel."""
NORMALIZATIONS: Mapping[str, Moments | None] = {
  "none": None,
  "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
  "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}


class Weights(NamedTuple):
  """What a file of weights determines.

  Args:
    encoder: the spec of the encoder, {"name": …}; None if it was not asked for.
    prefix: the prefix of the names.
    normalization: a name of `NORMALIZATIONS`, or the mean and the deviation of the images; None if
      the file does not state it.
  """

  encoder: dict[str, Any] | None
  prefix: str
  normalization: str | Moments | None


def read_weights(path: str | os.PathLike, prefix: str | None = None, *, infer: bool) -> Weights:
  """Returns what a file of weights determines. The weights themselves are not read.

  Args:
    path: the safetensors file.
    prefix: the prefix of the names; None finds it.
    infer: whether the encoder is inferred from the shapes.

  Raises:
    UserError: the file cannot be read, or determines no encoder. The message starts with the path.
  """
  with naming(path):
    _check_file(path)
    try:
      with safe_open(path, framework="numpy") as file:
        names, metadata = list(file.keys()), file.metadata() or {}
        prefix = find_prefix(names, prefix)
        shapes = {
          timm: tuple(file.get_slice(name).get_shape())
          for timm, name in timm_names(names, prefix).items()
        }
    except (SafetensorError, OSError) as error:
      raise _damaged(path, error) from None
    encoder = architecture(shapes) if infer else None
    return Weights(encoder, prefix, _stated(pathlib.Path(path), metadata))


def checksum(path: str | os.PathLike) -> str:
  """Returns the SHA-256 checksum of a file, in hexadecimal.

  Raises:
    UserError: the file cannot be read.
  """
  _check_file(path)
  try:
    with open(path, "rb") as file:
      return hashlib.file_digest(file, "sha256").hexdigest()
  except OSError as error:
    raise UserError(f"the file cannot be read: {str(error.strerror).lower()}") from None


def moments_of(value: Any) -> Moments | None:
  """Returns the mean and the deviation of a normalization, or None if there is none.

  Args:
    value: a name of `NORMALIZATIONS`, or a pair (mean, deviation).

  Raises:
    UserError: it is neither.
  """
  if isinstance(value, str):
    if value not in NORMALIZATIONS:
      raise UserError(
        f"normalization must be 'file', 'none', 'imagenet', 'half' or (mean, deviation), not {value!r}"
      )
    return NORMALIZATIONS[value]
  try:
    mean, deviation = (tuple(map(float, each)) for each in value)
  except (TypeError, ValueError):
    mean = deviation = ()
  valid = np.isfinite([*mean, *deviation]).all() and all(each > 0 for each in deviation)
  if not mean or len(mean) != len(deviation) or not valid:
    raise UserError(
      "normalization must be (mean, deviation) with one number per channel and positive deviations, "
      f"not {value!r}"
    )
  return mean, deviation


def _stated(path: pathlib.Path, metadata: Mapping[str, str]) -> str | Moments | None:
  """Returns the normalization in the metadata of a file or in a file of settings beside it."""
  if "normalization" in metadata:  # The file is of `contrastax export`.
    try:
      value = json.loads(metadata["normalization"])
    except json.JSONDecodeError:
      value = metadata["normalization"]
    moments = moments_of(value)
    return value if isinstance(value, str) else moments
  found = _pair(metadata, ("mean", "std"))
  for name in ("config.json", "preprocessor_config.json"):
    if found is None and (path.parent / name).is_file():
      content = read_json(path.parent / name, dict)
      inner = content.get("pretrained_cfg", {})
      found = _pair(inner if isinstance(inner, Mapping) else {}, ("mean", "std"))
      found = found or _pair(content, ("image_mean", "image_std"))
  return found


def _pair(values: Mapping[str, Any], names: tuple[str, str]) -> Moments | None:
  if not all(name in values for name in names):
    return None
  both = [values[name] for name in names]
  try:
    return moments_of([json.loads(each) if isinstance(each, str) else each for each in both])
  except json.JSONDecodeError as error:
    raise UserError(f"{' and '.join(names)} in its settings are no numbers ({error})") from None


@contextlib.contextmanager
def naming(path: str | os.PathLike) -> Iterator[None]:
  """Returns a context that starts the message of a UserError with a path."""
  try:
    yield
  except UserError as error:
    raise UserError(f"{path}: {error}") from None


def _check_file(path: str | os.PathLike) -> None:
  if not os.path.isfile(path):
    raise UserError("no such file")


def _damaged(path: str | os.PathLike, error: Exception) -> UserError:
  fault = f"the file is damaged or not a safetensors file ({' '.join(str(error).split())})"
  with contextlib.suppress(OSError), open(path, "rb") as file:
    if file.read(2) == b"PK":
      fault += (
        "; PyTorch converts its checkpoints by safetensors.torch.save_file(torch.load(path), new)"
      )
  return UserError(fault)


def read(path: str | os.PathLike) -> dict[str, np.ndarray]:
  """Reads all arrays of a safetensors file.

  Raises:
    UserError: the file cannot be read.
  """
  _check_file(path)
  try:
    return load_file(path)
  # Some versions of safetensors do not have all types of NumPy and raise the last two.
  except (SafetensorError, OSError, KeyError, TypeError) as error:
    raise _damaged(path, error) from None
