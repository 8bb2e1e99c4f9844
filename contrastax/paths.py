"""Paths: names of the outputs of networks, such as `projection.1` or `encoder.tokens`.

`Net.seen` contains the outputs by the name of the network and the number of the view. A mapping
`{view: x}` has the numbers of views as keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from contrastax.core import Batch, UserError, embedding_of
from contrastax.nouns import nearest


def fields(batch: Batch, names: str | tuple[str, ...], owner: str) -> Any:
  """Returns a field of the batch, or a mapping of several fields.

  Args:
    batch: the batch.
    names: the name of a field, or a tuple of names.
    owner: the name of the method or term, for the message.

  Raises:
    UserError: the batch does not have a field.
  """
  for name in (names,) if isinstance(names, str) else names:
    if name not in batch:
      raise UserError(
        f"{owner}: there is no field {name!r}{nearest(name, sorted(batch))}; use a field of the data "
        "in the method, or add the field to the data"
      )
  return select(batch, names)


def select(arrays: Mapping[str, Any], names: str | tuple[str, ...]) -> Any:
  """Returns the array with this name, or a mapping {name: array} for a tuple of names."""
  return arrays[names] if isinstance(names, str) else {name: arrays[name] for name in names}


def embedding(outputs: Any) -> Any:
  """Returns the embedding of each view from the outputs of an encoder. Projections read it.

  Args:
    outputs: {view: y} or one y, where y is an array, or a mapping with the entry `embedding`.

  Returns:
    {view: embedding}, or one embedding.
  """
  return part(outputs, "embedding")


def part(outputs: Any, name: str) -> Any:
  """Returns one output of an encoder for each view.

  Args:
    outputs: {view: y} or one y. A y that is an array has one output, `embedding`.
    name: the name of the output.

  Raises:
    UserError: the encoder does not return this output.
  """

  def output(y):
    if isinstance(y, Mapping):
      if name not in y:
        raise UserError(f"the encoder returns no {name!r}{nearest(name, sorted(y))}")
      return y[name]
    if name != "embedding":
      raise UserError(f"the encoder returns an array, not a mapping with {name!r}")
    return embedding_of(y)

  views, is_single = by_view(outputs)
  results = {view: output(y) for view, y in views.items()}
  return results[0] if is_single else results


def pick(seen: Mapping[str, Any], path: str) -> dict[int | None, Any]:
  """Returns the values at a path.

  Args:
    seen: the outputs of the networks, `Net.seen`.
    path: names and numbers of views, separated by dots. A path without a number means all views.
      Examples: `projection`, `projection.1`, `encoder.tokens`, `target.projection`, `side.0.box`,
      `batch.label`.

  Returns:
    {view: value}, or {None: value} for a value that belongs to no view, such as a field of the
    batch.

  Raises:
    UserError: there is no value at the path.

  Example:
    >>> from contrastax.paths import pick
    >>> seen = {"projection": {0: "z0", 1: "z1"}, "batch": {"label": "y"}}
    >>> pick(seen, "projection"), pick(seen, "projection.1"), pick(seen, "batch.label")
    ({0: 'z0', 1: 'z1'}, {1: 'z1'}, {None: 'y'})
  """
  nodes: dict[int | None, Any] = {None: seen}
  for step in path.split("."):
    following: dict[int | None, Any] = {}
    for view, node in nodes.items():
      if not _has_views(node):
        following[view] = _entry(node, step, path)
      elif step.isdigit():
        following[int(step)] = _entry(node, int(step), path)
      else:
        following |= {number: _entry(inner, step, path) for number, inner in node.items()}
    nodes = following
  for view, node in list(nodes.items()):
    if _has_views(node):
      del nodes[view]
      nodes |= node
  return nodes


def read_only(seen: Mapping[str, Any]) -> Mapping[str, Any]:
  """Returns a read-only view of the outputs and of the mappings by view in them."""
  return MappingProxyType(
    {name: read_only(x) if _has_views(x) or name == "target" else x for name, x in seen.items()}
  )


def by_view(xs: Any) -> tuple[Mapping[int, Any], bool]:
  """Returns ({view: x}, whether `xs` is a single x). A single x becomes view 0."""
  return (xs, False) if _has_views(xs) else ({0: xs}, True)


def _entry(node: Any, step: str | int, path: str) -> Any:
  known = sorted(map(str, node)) if isinstance(node, Mapping) else []
  if not isinstance(node, Mapping) or step not in node:
    raise UserError(f"the path {path!r} names nothing: no {step!r}{nearest(str(step), known)}")
  return node[step]


def _has_views(node: Any) -> bool:
  return isinstance(node, Mapping) and bool(node) and all(isinstance(v, int) for v in node)
