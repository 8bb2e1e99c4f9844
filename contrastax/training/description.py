"""The file `encoder.json`: what `load` needs in addition to the parameters of a run."""

from __future__ import annotations

import dataclasses
import math
import os
import pathlib
from collections.abc import Callable, Collection, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from contrastax.annotations import NotAllowed
from contrastax.core import Encoder, Params, State, UserError, check_kind, embedding_of
from contrastax.files import read_json, write_json
from contrastax.parts import assemble

FILE = "encoder.json"
REWRITTEN = "the command that started the run writes the file again"
MOST_VALUES = 2**28
"""The largest number of values of one example. A file with a larger shape is refused."""
MOST_BYTES = 2**20
"""The largest size of an encoder.json. A larger file is refused."""
MOST_LAYERS = 1000
"""The largest number of layers of a network. A file with more, which take minutes to build, is refused."""


@dataclasses.dataclass(frozen=True)
class Network:
  """A network of a run, as encoder.json describes it.

  Args:
    name: its name among the run's parameters.
    encoder: the network.
    inputs: the shape and type of one example: a `jax.ShapeDtypeStruct`, or a tree of them.
    params: the shapes of its parameters.
    state: the shapes of its state.
    spec: the network as specified in a config, or None if it was passed to `load`.
    fields: the name of the field of the data that the network takes, a list of names, or None if it
      is not known.
    averaged: whether the average of its weights is loaded, see `training.with_average`.
  """

  name: str
  encoder: Encoder
  inputs: Any
  params: Params
  state: State
  spec: Any
  fields: Any
  averaged: bool


def save_encoder_spec(
  workdir: str | os.PathLike,
  spec: Any,
  network: str,
  inputs: Any,
  *,
  fields: str | tuple[str, ...] | None = None,
  networks: Mapping[str, Mapping[str, Any]] | None = None,
  averaged: bool = False,
) -> None:
  """Writes `encoder.json`, which `load` needs in addition to a checkpoint.

  Args:
    workdir: folder of the run.
    spec: the encoder as specified in a config, or None if no config specifies it.
    network: name of the encoder among the run's parameters.
    inputs: the inputs of the encoder: an array, or a tree of arrays, with an axis of examples.
    fields: the fields of the data that are the inputs.
    networks: {name: entry} of the other networks. The entry of an encoder has its spec `encoder`, its
      `inputs` like those above, and its `fields`. The entry of a projection has its spec `encoder`,
      and `of`, the name of the encoder whose embeddings it takes.
    averaged: whether the average of the weights is loaded, see `training.with_average`.
  """
  others = {
    name: {**entry, "inputs": spec_of(entry["inputs"])} if "inputs" in entry else {**entry}
    for name, entry in (networks or {}).items()
  }
  content = {"encoder": spec, "network": network, "inputs": spec_of(inputs), "fields": fields}
  content |= {"networks": others} | ({"averaged": True} if averaged else {})
  write_json(pathlib.Path(workdir) / FILE, content)


def read_content(workdir: pathlib.Path) -> dict[str, Any]:
  """Returns the content of an encoder.json.

  Raises:
    UserError: there is no such file, it is damaged, or it is of an older version.
  """
  path = workdir / FILE
  if path.is_file() and path.stat().st_size > MOST_BYTES:
    raise UserError(
      f"{path} has more than {MOST_BYTES:,} bytes, so it is not a file of this library"
    )
  try:
    content = read_json(path, dict)
  except (FileNotFoundError, NotADirectoryError):
    if not workdir.exists():
      raise UserError(f"there is no folder {workdir}; give the folder of a run") from None
    raise UserError(f"{workdir} holds no run: it has no {FILE}") from None
  except UserError as error:
    raise UserError(f"{error}; {REWRITTEN}") from None
  if "image_shape" in content:
    raise UserError(
      f"{workdir} is a run of contrastax before version 0.2, which this version cannot read; "
      "train it again in another folder"
    )
  return content


def read_network(
  workdir: pathlib.Path,
  content: Mapping[str, Any],
  encoder: Encoder | None,
  network: str | None,
  examples: Any,
  allow: Collection[str],
) -> Network:
  """Returns a network that an encoder.json describes.

  Args:
    workdir: the folder of the run, for messages.
    content: the content of the file, see `read_content`.
    encoder: see `load`. If it is not None, it replaces the spec in the file.
    network: see `load`.
    examples: the argument `inputs` of `load`. If it is not None, it replaces the shapes in the file.
    allow: see `load`.

  Raises:
    UserError: see `load`.
  """
  path, evaluated = workdir / FILE, content.get("network")
  name = evaluated if network is None else network
  averaged = content.get("averaged") is True and name == evaluated
  passed = encoder is not None and examples is not None
  try:
    entry = _entry(content, name)
    if entry is None and not passed:
      known = ", ".join(map(str, [evaluated, *content.get("networks", {})]))
      raise UserError(
        f"{path} describes {known}, not the network {name!r}; pass it together with an example of its "
        f"inputs: load(workdir, network={name!r}, encoder=…, inputs=…)"
      )
    if entry is None or (encoder is None and entry.get("encoder", "") is None):
      entry = {} if entry is None else entry
      if encoder is None:
        raise UserError(
          f"{workdir} was trained from code; pass the encoder of its method to load: "
          "load(workdir, encoder=…)"
        )
  except UserError:
    raise
  except Exception as error:
    raise _damaged(path, error) from error
  try:
    if not isinstance(name, str):
      raise UserError(f"network must be a name, not {name!r}")
    inputs = _inputs_of(content, entry, allow) if examples is None else shapes_of(spec_of(examples))
    if encoder is None:
      made, params, state = described(entry["encoder"], inputs, allow)
      fields = entry.get("fields")
      return Network(name, made, inputs, params, state, entry["encoder"], fields, averaged)
  except NotAllowed as error:
    raise UserError(f"{path}: {error}") from None
  except Exception as error:  # A damaged file may specify any arguments of any encoder.
    raise _damaged(path, error) from error
  check_kind("encoder", encoder, Encoder, "encoders.mlp((64,))")
  try:
    params, state = jax.eval_shape(encoder.init, jax.random.key(0), _batch(inputs))
  except Exception as error:  # An encoder may raise any error for inputs of another kind.
    fault = " ".join(str(error).split()) or type(error).__name__
    raise UserError(
      f"the encoder does not accept the inputs of the run in {workdir}: {fault}; pass the encoder that "
      f"the run had as {name!r}"
    ) from error
  return Network(name, encoder, inputs, params, state, None, entry.get("fields"), averaged)


def has_projection(content: Mapping[str, Any], name: str) -> bool:
  """Returns whether the content of an encoder.json describes a projection of an encoder."""
  networks = content.get("networks")
  entries = networks.values() if isinstance(networks, Mapping) else ()
  return any(isinstance(entry, Mapping) and entry.get("of") == name for entry in entries)


def projection_of(content: Mapping[str, Any], name: str) -> str:
  """Returns the name of the projection that follows an encoder.

  Raises:
    UserError: the file describes no such projection.
  """
  networks = content.get("networks")
  for projection, entry in networks.items() if isinstance(networks, Mapping) else ():
    if isinstance(entry, Mapping) and entry.get("of") == name:
      return projection
  raise UserError(
    f"{FILE} describes no projection of {name!r}; leave out projected, or load the projection as a "
    "network: load(workdir, network='projection', encoder=…, inputs=…)"
  )


def described(spec: Any, inputs: Any, allow: Collection[str]) -> tuple[Encoder, Params, State]:
  """Returns the encoder of a spec, and the shapes of its parameters and of its state.

  Args:
    spec: the encoder as specified in a config.
    inputs: the shape and type of one example.
    allow: the modules of the user that may be imported.

  Raises:
    UserError: the spec is invalid, or has too many layers.
  """
  if _layers(spec) > MOST_LAYERS:
    raise UserError(f"a network must have at most {MOST_LAYERS:,} layers")
  # A file that the spec names is not read: the parameters come from the checkpoint.
  encoder = assemble(Encoder, without_files(spec), "encoder", allow=allow)
  return encoder, *jax.eval_shape(encoder.init, jax.random.key(0), _batch(inputs))


def _layers(spec: Any) -> int:
  """Returns the number of layers of a spec, or more: every depth, and the length of every list."""
  if isinstance(spec, Mapping):
    depth = spec.get("depth")
    return sum(map(_layers, spec.values())) + (abs(depth) if type(depth) is int else 0)
  return len(spec) + sum(map(_layers, spec)) if isinstance(spec, list | tuple) else 0


def composed(encoder: Encoder, projection: Encoder) -> Encoder:
  """Returns the projection of the embeddings of an encoder.

  Its parameters and its state are `{"encoder": …, "projection": …}`.
  """

  def init(key, x):
    params, state = encoder.init(key, x)
    y, _ = encoder.apply(params, state, x, key=None, train=False)
    second = projection.init(key, embedding_of(y))
    pairs = zip((params, state), second, strict=True)
    whole = [{"encoder": first, "projection": last} for first, last in pairs]
    return whole[0], whole[1]

  def apply(params, state, x, *, key=None, train):
    y, first = encoder.apply(params["encoder"], state["encoder"], x, key=key, train=train)
    own = params["projection"], state["projection"]
    z, last = projection.apply(*own, embedding_of(y), key=key, train=train)
    return z, {"encoder": first, "projection": last}

  return Encoder(init, apply, encoder.together and projection.together)


def without_files(spec: Any) -> Any:
  """Returns the spec with random weights in place of those of files."""
  return changed(spec, lambda part, _: {**part, "path": None}, "")


def changed(value: Any, change: Callable[[dict[str, Any], str], dict[str, Any]], where: str) -> Any:
  """Replaces each part of a spec that reads a file of weights.

  Args:
    value: the spec.
    change: function `(part, path) -> part`.
    where: the path of the spec in the config.
  """
  if isinstance(value, Mapping):
    inner = {key: changed(each, change, f"{where}.{key}") for key, each in value.items()}
    return change(inner, where) if value.get("name") == "pretrained" else inner
  if isinstance(value, list | tuple):
    return tuple(changed(each, change, f"{where}[{i}]") for i, each in enumerate(value))
  return value


def spec_of(inputs: Any) -> Any:
  """Returns the shapes and types of a tree of inputs with an axis of examples, as JSON."""
  if isinstance(inputs, Mapping):
    return {name: spec_of(values) for name, values in inputs.items()}
  if isinstance(inputs, tuple):
    return [spec_of(values) for values in inputs]
  return {"shape": list(inputs.shape[1:]), "dtype": str(inputs.dtype)}


def shapes_of(spec: Any) -> Any:
  """Returns the tree of `jax.ShapeDtypeStruct` that `spec_of` wrote."""
  if isinstance(spec, list) and spec:
    return tuple(map(shapes_of, spec))
  if not (isinstance(spec, dict) and spec):
    raise UserError(f"inputs must be shapes and types, not {spec!r}")
  if isinstance(spec.get("shape"), list):
    shape = spec["shape"]
    if not all(type(size) is int and size > 0 for size in shape):
      raise UserError(f"a shape must be positive integers, not {shape!r}")
    if math.prod(shape) > MOST_VALUES:
      raise UserError(f"an example must have at most {MOST_VALUES:,} values, not shape {shape!r}")
    dtype = np.dtype(spec.get("dtype"))
    if not (dtype == np.bool_ or jnp.issubdtype(dtype, np.number)):
      raise UserError(f"the type of inputs must be one of numbers, not {dtype}")
    return jax.ShapeDtypeStruct(tuple(shape), dtype)
  return {name: shapes_of(inner) for name, inner in spec.items()}


def _entry(content: Mapping[str, Any], name: Any) -> Any:
  """Returns what the file contains about a network, or None."""
  if name == content.get("network"):
    return content
  return content.get("networks", {}).get(name)


def _inputs_of(content: Mapping[str, Any], entry: Mapping[str, Any], allow: Collection[str]) -> Any:
  """Returns the shape and type of one input. That of a projection is an embedding."""
  if "of" not in entry:
    return shapes_of(entry.get("inputs"))
  owner = _entry(content, entry["of"])
  inputs = shapes_of(owner.get("inputs"))
  encoder, params, state = described(owner["encoder"], inputs, allow)

  def embedding(params, state, x):
    return embedding_of(encoder.apply(params, state, x, key=None, train=False)[0])

  found = jax.eval_shape(embedding, params, state, _batch(inputs))
  return jax.ShapeDtypeStruct(found.shape[1:], found.dtype)


def _batch(inputs: Any) -> Any:
  """Returns a batch of one example for the encoder, in which images are float."""

  def batch(leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
    image = len(leaf.shape) > 2 and leaf.dtype == np.uint8
    return jax.ShapeDtypeStruct((1, *leaf.shape), np.float32 if image else leaf.dtype)

  return jax.tree.map(batch, inputs)


def _damaged(path: pathlib.Path, error: Exception) -> UserError:
  fault = " ".join(str(error).split()) or type(error).__name__
  return UserError(f"{path} does not describe an encoder of this library: {fault}; {REWRITTEN}")
