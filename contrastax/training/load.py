"""Loads trained encoders without the code that trained them."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
from collections.abc import Collection, Mapping
from typing import Any

import jax
import numpy as np

from contrastax.core import Encoder, Params, State, UserError
from contrastax.evaluation import embed
from contrastax.training.average import ENTRY
from contrastax.training.checkpoints import Checkpoints
from contrastax.training.description import (
  Network,
  composed,
  projection_of,
  read_content,
  read_network,
)
from contrastax.training.inputs import convert
from contrastax.training.weights import TIMM, TREE, read_weights


@dataclasses.dataclass(frozen=True)
class FrozenEncoder:
  """A trained encoder: a function from inputs to embeddings.

  Args:
    encoder: the encoder.
    params: its parameters.
    state: its state.
    inputs: shape and type of one example, without the axis of examples: a `jax.ShapeDtypeStruct`,
      or a tree of them.
    step: step of the checkpoint that contains the parameters.
    network: name of the encoder among the run's parameters.
    fields: the name of the field of the data that is the input, a list of names, or None if it is not
      known.
    spec: the encoder as specified in a config, and the projection that follows it, or None. These are
      None if they were passed to `load`.
  """

  encoder: Encoder
  params: Params
  state: State
  inputs: Any
  step: int
  network: str = "encoder"
  fields: Any = None
  spec: tuple[Any, Any] = (None, None)

  def __call__(self, inputs: Any, *, batch_size: int = 512, bounded: bool = True) -> np.ndarray:
    """Embeds inputs.

    Args:
      inputs: an array [n, …] or a `data.Column`, or a tree of these, with the shapes that the encoder
        was trained on. Images are uint8, or float in [0, 1]. For images it may also be an
        array [h, w, c] of one image, a path or a PIL image of any size, or a list of paths and PIL
        images; these are converted by the rule of `data.decode.decode`. For bytes of texts it may be a text, or a list of texts; a text that is
        longer than those of the run is cut.
      batch_size: number of inputs in one call of the encoder.
      bounded: whether float images must lie in [0, 1]. Use False for random views.

    Returns:
      Embeddings, NumPy float32 [n, d]; [d] for one image [h, w, c], path, PIL image or text.

    Raises:
      UserError: the inputs have another structure, shape, type or range, or a file cannot be decoded.
    """
    converted, single = convert(self.inputs, inputs)
    embeddings = embed(
      self.encoder, self.params, self.state, converted, batch_size=batch_size, bounded=bounded
    )
    return embeddings[0] if single else embeddings


def load(
  workdir: str | os.PathLike,
  *,
  encoder: Encoder | None = None,
  network: str | None = None,
  inputs: Any = None,
  projected: bool = False,
  allow: Collection[str] = (),
) -> FrozenEncoder:
  """Loads the encoder of a run, or another of its networks, from its newest intact checkpoint.

  The weights of a run with `average` are the average of those of its steps.

  The folder may also be one that `contrastax export` has written. Nothing in the folder is executed
  or imported, so the folder may come from a stranger.

  Args:
    workdir: folder of the run, such as `runs/digits_simclr`.
    encoder: the encoder of the method, for a run that was started from code. None reads it from the
      run's config.
    network: the name of a network of the method, such as "other_encoder" of CLIP. None means the
      encoder that is evaluated. The input of a projection is an embedding. For a run that was started
      from code, `encoder` is this network.
    inputs: example inputs of the network, an array [n, …] or a tree of arrays, of which only the
      shapes and types are read. None reads these from the run.
    projected: whether the projection follows the encoder. The result are the vectors that the loss
      compared. It needs a run from a config.
    allow: your own modules that the spec of the encoder may use, as `"package.module:function"`. No
      other module is imported.

  Returns:
    The encoder, a function from inputs to embeddings.

  Raises:
    UserError: `workdir` has no run or no checkpoint, its files are damaged, its encoder is in a
      module that `allow` does not list, `encoder` is not the encoder of the run, or the run does not
      describe the network or its projection.

  Example:
    >>> import contrastax
    >>> contrastax.load("nowhere")
    Traceback (most recent call last):
      ...
    contrastax.core.UserError: there is no folder nowhere; give the folder of a run
  """
  workdir = pathlib.Path(workdir)
  content = read_content(workdir)
  first = read_network(workdir, content, encoder, network, inputs, allow)
  if "layout" in content:
    if projected:
      raise UserError(f"{workdir} is an export of one network; export the run with projected")
    return _exported(workdir, content, first, allow)
  networks = [first]
  if projected:
    if encoder is not None:
      raise UserError("projected needs a run from a config; leave out encoder")
    name = projection_of(content, first.name)
    networks.append(read_network(workdir, content, None, name, None, allow))
  with contextlib.closing(Checkpoints(workdir / "checkpoints")) as checkpoints:
    step = checkpoints.newest_intact()
    if step is None:
      raise UserError(f"{workdir} has no checkpoint yet; load it when the run has saved one")
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    own: dict[str, dict[str, Any]] = {"params": {}, "state": {}}
    for each in networks:
      if each.averaged:
        own["state"][ENTRY] = {"params": each.params, "state": each.state}
      else:
        own["params"][each.name], own["state"][each.name] = each.params, each.state
    like = jax.tree.map(
      lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device),
      {name: part for name, part in own.items() if part},
    )
    tree = checkpoints.restore(step, like, partial=True)
  average = tree["state"].get(ENTRY, {})
  trees = [
    (average["params"], average["state"])
    if each.averaged
    else (tree["params"][each.name], tree["state"][each.name])
    for each in networks
  ]
  if not projected:
    return FrozenEncoder(
      first.encoder, *trees[0], first.inputs, step, first.name, first.fields, (first.spec, None)
    )
  (params, state), (last_params, last_state) = trees
  last = networks[1]
  return FrozenEncoder(
    composed(first.encoder, last.encoder),
    {"encoder": params, "projection": last_params},
    {"encoder": state, "projection": last_state},
    first.inputs,
    step,
    first.name,
    first.fields,
    (first.spec, last.spec),
  )


def data_fingerprint(workdir: str | os.PathLike, step: int) -> int | None:
  """Returns the fingerprint of the data of a run, see `core.Source`, or None without a checkpoint.

  Args:
    workdir: the folder of the run.
    step: the step of a checkpoint.
  """
  folder = pathlib.Path(workdir) / "checkpoints"
  if not (folder / str(step)).is_dir():
    return None
  with contextlib.closing(Checkpoints(folder)) as checkpoints:
    return int(checkpoints.restore(step, {"data": np.zeros((), np.uint32)}, partial=True)["data"])


def _exported(
  workdir: pathlib.Path,
  content: Mapping[str, Any],
  first: Network,
  allow: Collection[str],
) -> FrozenEncoder:
  """Loads the encoder of a folder that `contrastax export` has written."""
  encoder, params, state = first.encoder, first.params, first.state
  projection = content.get("projection")
  if projection is not None:
    entry = {"encoder": projection, "of": first.name}
    last = read_network(workdir, {**content, "networks": {"": entry}}, None, "", None, allow)
    encoder = composed(encoder, last.encoder)
    params, state = (
      {"encoder": own, "projection": of_last}
      for own, of_last in ((params, last.params), (state, last.state))
    )
  step = content.get("step")
  if type(step) is not int or content["layout"] not in (TIMM, TREE):
    raise UserError(f"{workdir}/encoder.json is damaged; export the run again")
  params, state = read_weights(workdir, params, state, content["layout"])
  spec = (first.spec, projection)
  return FrozenEncoder(encoder, params, state, first.inputs, step, first.name, first.fields, spec)
