"""Fixed splits and classes of data sets that are made from texts.

A split depends on checksums of texts, not on positions. So an example stays in its split if another
version of the source has more or fewer examples.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np

from contrastax.labels import NONE


def one_in(count: int, keys: Sequence[str]) -> np.ndarray:
  """Chooses about one key in `count` by its checksum. Equal keys are all chosen, or none of them.

  Args:
    count: 1 or more.
    keys: n texts.

  Returns:
    [n], booleans.

  Example:
    >>> from contrastax.data.splits import one_in
    >>> one_in(2, ["a", "d", "a"])
    array([False,  True, False])
  """
  return np.array([zlib.crc32(key.encode()) % count == 0 for key in keys], bool)


def new_in_test(held_out: np.ndarray, *columns: Sequence[str]) -> np.ndarray:
  """Returns which examples remain if test examples that repeat training examples are left out.

  Args:
    held_out: [n], which examples are test examples.
    columns: n values each. A test example is left out if one of its values occurs in the same
      column of a training example.

  Returns:
    [n], booleans. All training examples remain.

  Example:
    >>> import numpy as np
    >>> from contrastax.data.splits import new_in_test
    >>> new_in_test(np.array([False, True, True]), ["a", "a", "b"])
    array([ True, False,  True])
  """
  remaining = np.ones(len(held_out), bool)
  for column in columns:
    seen = {value for value, is_test in zip(column, held_out, strict=True) if not is_test}
    remaining &= ~held_out | [value not in seen for value in column]
  return remaining


def frequent_classes(
  kinds: Sequence[str], held_out: np.ndarray, least: int
) -> tuple[np.ndarray, tuple[str, ...]]:
  """Makes classes of the kinds that many training examples have.

  Args:
    kinds: the kind of each example.
    held_out: [n], which examples are test examples.
    least: the fewest training examples of a class. All examples of a rarer kind have no label.

  Returns:
    The labels [n] int32, where −1 means no label, and the names of the classes in sorted order.

  Example:
    >>> import numpy as np
    >>> from contrastax.data.splits import frequent_classes
    >>> frequent_classes(["b", "a", "b", "b"], np.array([False, False, False, True]), 2)
    (array([ 0, -1,  0,  0], dtype=int32), ('b',))
  """
  names, number = np.unique(np.asarray(kinds), return_inverse=True)
  is_class = np.bincount(number[~held_out], minlength=len(names)) >= least
  renumbered = np.where(is_class, np.cumsum(is_class) - 1, NONE)
  return renumbered[number].astype(np.int32), tuple(names[is_class].tolist())
