"""Tables: a few numbers kept of every example of the data, a row each.

What a loss or a temperature knows of one example goes on from one epoch to the next, so it is
state: saved, resumed, and equal on any number of devices. A batch may hold an example several
times, as SimCLR's two views do; what it writes is then the mean, of all of them.
"""

from __future__ import annotations

import dataclasses
import functools
import operator

import jax
import jax.numpy as jnp
import numpy as np

from contrastax.core import Array, UserError

MULTIPLE = 1024  # of rows, so that any power of two of devices up to it divides them evenly


@functools.partial(jax.tree_util.register_dataclass, data_fields=["values"], meta_fields=["size"])
@dataclasses.dataclass(frozen=True)
class Table:
  """A number of each of `size` examples: `values` [size, padded to a multiple of 1,024].

  `training` divides the rows of a table among the devices that divide them. The padding does not
  depend on the devices, so a run may go on with another number of them.
  """

  values: Array
  size: int

  def read(self, row: Array) -> Array:
    """[n], of the rows [n]. Outside the table: an error where `row` is known, else NaN (or True),
    so that a compiled step's loss says so."""
    inside = valid_index(row, self.size)
    kept = self.values[jnp.where(inside, row, 0)]
    return jnp.where(inside, kept, jnp.asarray(jnp.nan).astype(kept.dtype))

  def write(self, row: Array, values: Array) -> Table:
    """The table with `values` [n], without gradient, in the rows [n]; a row outside is not written.

    Of equal rows the values are to be equal, for the order of writes is not defined.
    """
    row = jnp.where((row >= 0) & (row < self.size), row, len(self.values))
    values = jax.lax.stop_gradient(values).astype(self.values.dtype)
    return dataclasses.replace(self, values=self.values.at[row].set(values, mode="drop"))


def table(size: int, value, *, of: str) -> Table:
  """One that holds `value` for all examples. `of`: whose it is, for the error of an unknown size."""
  if size < 1:
    raise UserError(
      f"{of} keeps something of each example of the data, and examples is {size}; give the method "
      "examples=…, their number"
    )
  kind = jnp.result_type(type(value))
  return Table(jnp.full(-(-size // MULTIPLE) * MULTIPLE, value, kind), size)


def row_of(side) -> Array:
  """[n], each anchor's row: its side `row` where it has one, else its `index`."""
  return side["row"] if "row" in side else side["index"]


def valid_index(row: Array, size: int) -> Array:
  """Which rows there are, 0 … size − 1. Where they are known, any other is an error."""
  inside = (row >= 0) & (row < size)
  if not isinstance(row, jax.core.Tracer):
    known = np.asarray(row)
    wrong = known[(known < 0) | (known >= size)]
    if wrong.size:
      raise UserError(
        f"an index is 0 to {size - 1:,}, the place of an example in the data, not {wrong[0]:,}; give "
        "the method examples=…, the size of the data"
      )
  return inside


def mean(row: Array, values: Array) -> Array:
  """[n], of each row the mean of the values [n] of all equal rows."""
  return pooled(operator.add, row, values) / pooled(operator.add, row, jnp.ones_like(values))


def log_mean_exp(row: Array, logs: Array) -> Array:
  """[n], of each row the logarithm of the mean of e^logs of all equal rows."""
  count = pooled(operator.add, row, jnp.ones_like(logs))
  return pooled(jnp.logaddexp, row, logs) - jnp.log(count)


def pooled(operation, row: Array, values: Array) -> Array:
  """[n], of each row the values of all equal rows joined by an operation, such as addition.

  Always in the order of the batch: sums by scattering have none on an accelerator.
  """
  order = jnp.argsort(row)  # stable
  sorted_rows = row[order]
  first = jnp.concatenate([jnp.ones(1, bool), sorted_rows[1:] != sorted_rows[:-1]])

  def join(before, here):
    (one, x), (other, y) = before, here
    return one | other, jnp.where(other, y, operation(x, y))

  _, joined = jax.lax.associative_scan(join, (first, values[order]))
  return joined[jnp.searchsorted(sorted_rows, row, side="right") - 1]
