"""The files of weights that a config names: what they determine, and the config without them."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Mapping
from typing import Any

from ml_collections import ConfigDict

from contrastax.core import Encoder, UserError
from contrastax.encoders.weight_files import checksum, naming, read_weights
from contrastax.parts import complete
from contrastax.training.description import changed


def resolved(config: ConfigDict, print_line: Callable[[str], object] = print) -> ConfigDict:
  """Returns the config with all that its files of weights determine.

  These are the encoder, the prefix and the normalization, unless the config states them, and the
  checksum. A run is therefore resumed with the same file only, and its encoder can be loaded without
  the file.

  Args:
    config: the completed config.
    print_line: a function that prints a line about each file.

  Raises:
    UserError: a file cannot be read, or has another checksum than the config states.
  """
  values = config.to_dict()

  def fill(spec: dict[str, Any], where: str) -> dict[str, Any]:
    path = spec["path"]
    if not path:
      return spec
    try:
      known = read_weights(path, spec["prefix"], infer=spec["encoder"] is None)
      with naming(path):
        found = checksum(path)
        if spec["sha256"] not in (None, found):
          raise UserError(
            f"the file has the checksum {found}, not {spec['sha256']}; it has changed"
          )
    except UserError as error:
      raise UserError(f"{where}: {error}") from None
    encoder, normalization = spec["encoder"], spec["normalization"]
    if known.encoder is not None:
      encoder = complete(Encoder, known.encoder, f"{where}.encoder")
    if normalization == "file":
      normalization = known.normalization or "none"
    advice = ""
    if spec["normalization"] == "file" and known.normalization is None:
      advice = f", because the file does not state how; set {where}.normalization"
    print_line(f"weights: {_facts(spec, known.prefix, encoder, normalization)}{advice}")
    return {
      **spec,
      "encoder": encoder,
      "normalization": normalization,
      "prefix": known.prefix or spec["prefix"],
      "sha256": found,
    }

  method = changed(values["method"], fill, "config.method")
  return config if method == values["method"] else ConfigDict({**values, "method": method})


def _facts(
  spec: Mapping[str, Any], prefix: str, encoder: Mapping[str, Any], normalization: Any
) -> str:
  """Returns a line about a file of weights.

  Args:
    spec: the part as the config states it.
    prefix: the prefix of the names in the file.
    encoder: the spec of the encoder.
    normalization: the resolved normalization.
  """
  shown = ("depth", "width", "heads", "patch")
  arguments = ", ".join(f"{name}={encoder[name]}" for name in shown if name in encoder)
  removed = f", prefix {prefix!r} removed" if prefix else ""
  if normalization == "none":
    images = "images are not normalized"
  elif isinstance(normalization, str):
    images = f"images are normalized as {normalization!r}"
  else:
    images = "images are normalized by mean {} and deviation {}".format(*normalization)
  return f"{pathlib.Path(spec['path']).name}: {encoder['name']}({arguments}){removed}; {images}"
