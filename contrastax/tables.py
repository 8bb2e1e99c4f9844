"""Tables: arrays with one row per example of the data, such as individual temperatures.

A table is a part of the state of a run, and its values do not depend on the number of devices. A
batch may contain several anchors of an example, such as the two views in SimCLR. The mean of their
values is then written.
"""

from __future__ import annotations

import dataclasses
import functools
import operator
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from contrastax.core import Array, Side, UserError

MULTIPLE = 1024
"""Tables are padded to a multiple of this number of rows.

Any power of two of devices, up to this number, therefore divides the rows.
"""


@functools.partial(jax.tree_util.register_dataclass, data_fields=["values"], meta_fields=["size"])
@dataclasses.dataclass(frozen=True)
class Table:
  """One number for each example of the data.

  `contrastax.training` divides the rows among the devices if the number of devices divides the
  number of rows. The padding does not depend on the devices, so a run may resume on another number
  of them.

  Args:
    values: [size, padded to a multiple of 1,024].
    size: the number of examples.
  """

  values: Array
  size: int

  def read(self, row: Array) -> Array:
    """Returns the values [n] of the rows [n].

    In compiled code, the value of a row outside the table is NaN (True in a table of booleans), so
    that the loss becomes NaN.

    Raises:
      UserError: a concrete row is outside the table.
    """
    inside = valid_index(row, self.size)
    values = self.values[jnp.where(inside, row, 0)]
    return jnp.where(inside, values, jnp.asarray(jnp.nan).astype(values.dtype))

  def write(self, row: Array, values: Array) -> Table:
    """Returns the table with `values` [n] in the rows [n], without gradient.

    Rows outside the table are not written. Equal rows must have equal values, because the order of
    the writes is not defined.
    """
    row = jnp.where((row >= 0) & (row < self.size), row, len(self.values))
    values = jax.lax.stop_gradient(values).astype(self.values.dtype)
    return dataclasses.replace(self, values=self.values.at[row].set(values, mode="drop"))


def table(size: int, value: bool | int | float, *, of: str) -> Table:
  """Creates a table that contains `value` for all examples.

  Args:
    size: the number of examples.
    value: the first value of each row. Its type is the type of the table.
    of: the owner of the table, for the message.

  Raises:
    UserError: `size` is 0, which means that it is unknown.

  Example:
    >>> import jax.numpy as jnp
    >>> from contrastax import tables
    >>> temperatures = tables.table(100, 0.1, of="an example")
    >>> print(temperatures.write(jnp.array([7]), jnp.array([0.5])).read(jnp.array([6, 7])))
    [0.1 0.5]
  """
  if size < 1:
    raise UserError(
      f"{of} needs a table with a row for each example of the data, but examples is {size}; give the "
      "method examples=…, the size of the data"
    )
  dtype = jnp.result_type(type(value))
  return Table(jnp.full(-(-size // MULTIPLE) * MULTIPLE, value, dtype), size)


def row_of(side: Side) -> Array:
  """Returns the row [n] of each anchor: the side `row` if there is one, else `index`."""
  return side["row"] if "row" in side else side["index"]


def valid_index(row: Array, size: int) -> Array:
  """Returns which rows are inside a table, from 0 to size − 1.

  Raises:
    UserError: a concrete row is outside the table.
  """
  inside = (row >= 0) & (row < size)
  if not isinstance(row, Tracer):
    concrete = np.asarray(row)
    outside = concrete[(concrete < 0) | (concrete >= size)]
    if outside.size:
      raise UserError(
        f"an index must be the number of an example, 0 to {size - 1:,}, not {outside[0]:,}; give the "
        "method examples=…, the size of the data"
      )
  return inside


def mean(row: Array, values: Array) -> Array:
  """Returns, for each row [n], the mean of the values [n] of all equal rows."""
  return pooled(operator.add, row, values) / pooled(operator.add, row, jnp.ones_like(values))


def log_mean_exp(row: Array, logs: Array) -> Array:
  """Returns, for each row [n], the logarithm of the mean of e^logs of all equal rows."""
  count = pooled(operator.add, row, jnp.ones_like(logs))
  return pooled(jnp.logaddexp, row, logs) - jnp.log(count)


def pooled(operation: Callable[[Array, Array], Array], row: Array, values: Array) -> Array:
  """Combines, for each row [n], the values [n] of all equal rows.

  The values are combined in the order of the batch. A scatter would add them in no defined order
  on an accelerator.

  Args:
    operation: an associative operation, such as addition.
    row: the row of each value, [n].
    values: [n].
  """
  order = jnp.argsort(row)  # stable
  sorted_rows = row[order]
  first = jnp.concatenate([jnp.ones(1, bool), sorted_rows[1:] != sorted_rows[:-1]])

  def combine(left, right):
    (left_first, x), (right_first, y) = left, right
    return left_first | right_first, jnp.where(right_first, y, operation(x, y))

  _, combined = jax.lax.associative_scan(combine, (first, values[order]))
  return combined[jnp.searchsorted(sorted_rows, row, side="right") - 1]
