"""Paths: what networks returned, by name, view and output.

`{view: x}` maps the number of a view to its value. A path such as `projection.1` or `encoder.tokens`
names values in what `Net.seen` holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from contrastax.core import Batch, UserError, embedding_of
from contrastax.nouns import nearest


def fields(batch: Batch, names: str | tuple[str, ...], owner: str) -> Any:
  """A field of the batch, or a mapping of several; raises UserError for one that is missing."""
  for name in (names,) if isinstance(names, str) else names:
    if name not in batch:
      raise UserError(
        f"{owner}: there is no field {name!r}{nearest(name, sorted(batch))}; name a field of the data "
        "in the method, or add the field to the data"
      )
  return select(batch, names)


def select(arrays: Mapping[str, Any], names: str | tuple[str, ...]) -> Any:
  """A field, or a mapping of several."""
  return arrays[names] if isinstance(names, str) else {name: arrays[name] for name in names}


def embedding(outputs: Any) -> Any:
  """The embedding of each view, where an encoder returns several outputs: what heads read."""
  return part(outputs, "embedding")


def part(outputs: Any, name: str) -> Any:
  """One output of an encoder, of each view; an array stands for its own `embedding`."""

  def of(y):
    if isinstance(y, Mapping):
      if name not in y:
        raise UserError(f"the encoder returns no {name!r}{nearest(name, sorted(y))}")
      return y[name]
    if name != "embedding":
      raise UserError(f"the encoder returns an array, not a mapping with {name!r}")
    return embedding_of(y)

  views, one = by_view(outputs)
  found = {view: of(y) for view, y in views.items()}
  return found[0] if one else found


def pick(seen: Mapping[str, Any], path: str) -> dict[int | None, Any]:
  """What a path names in `seen`: {view: value}, or {None: value} of what belongs to no view.

  Steps of a path are names, and numbers of views; without a number all views are meant:
  `projection`, `projection.1`, `encoder.tokens`, `target.projection`, `side.0.box`, `batch.label`.
  """
  found: dict[int | None, Any] = {None: seen}
  for step in path.split("."):
    following = {}
    for view, node in found.items():
      if _has_views(node) and not step.isdigit():
        following |= {v: _entry(inner, step, path) for v, inner in node.items()}
      else:
        number = _has_views(node)
        key = int(step) if number else step
        following[key if number else view] = _entry(node, key, path)
    found = following
  for view, node in list(found.items()):
    if _has_views(node):
      del found[view]
      found |= node
  return found


def read_only(seen: Mapping[str, Any]) -> Mapping[str, Any]:
  """The mapping, and the mappings by view in it, read-only."""
  return MappingProxyType(
    {name: read_only(x) if _has_views(x) or name == "target" else x for name, x in seen.items()}
  )


def _entry(node, step, path):
  known = sorted(map(str, node)) if isinstance(node, Mapping) else []
  if not isinstance(node, Mapping) or step not in node:
    raise UserError(f"nothing is seen at {path!r}: no {step!r}{nearest(str(step), known)}")
  return node[step]


def _has_views(node):
  return isinstance(node, Mapping) and bool(node) and all(isinstance(v, int) for v in node)


def by_view(xs: Any) -> tuple[Mapping[int, Any], bool]:
  """({view: x}, whether x was one and is now view 0)."""
  return (xs, False) if _has_views(xs) else ({0: xs}, True)
