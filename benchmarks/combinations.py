"""Which methods, negatives, temperatures and losses can be combined, and why not the others?

  python -m benchmarks.combinations      # writes docs/combinations.md

The program builds the method of every cell and traces its objective on a batch of 32 images. The
library raises its errors there, so a cell is valid if there is no error. tests/cells.py tests that the
combinations learn and give the same result on one and eight devices. By default it covers every pair of
values; with `-m full` it tests every cell. tests/test_cells.py compares the page with the output.
"""

from __future__ import annotations

import dataclasses
import functools
import pathlib
from collections.abc import Callable

import jax
import jax.numpy as jnp

from contrastax import criteria, encoders, methods, schedules, temperatures, views
from contrastax.core import Method, UserError
from contrastax.negatives import (
  adversarial_negatives,
  adversarial_positives,
  bank,
  clusters,
  hardest_only,
  hardest_share,
  in_batch,
  mochi,
  noise,
  queue,
  queues,
  supremix,
)  # fmt: skip
from contrastax.pairwise import adaptive_heads
from contrastax.relations import (
  guide_below,
  label_distance,
  negatives_differ,
  negatives_share,
  other_view,
  same_example,
  same_label,
  similarity_within,
  virtual_labels,
)  # fmt: skip

PAGE = pathlib.Path(__file__).parent.parent / "docs" / "combinations.md"
N, EXAMPLES = 32, 100
both = in_batch() + queue(64)
mixes = mochi(hard=16, mixed=8, with_anchor=4)

NEGATIVES = {
  "`in_batch()`": (in_batch(), None),
  "`queue(n)`": (queue(64), None),
  "`in_batch() + queue(n)`": (both, None),
  "`queue(n) + queue(m)`": (queue(64) + queue(128), None),
  "`queues(n, by, count) & negatives_share(by)`": (
    queues(64, "language", 2), negatives_share("language"),
  ),
  "`in_batch() + bank()`": (in_batch() + bank(sample=16), None),
  "`queue(n) + mochi(…)`": (queue(64) + mixes, None),
  "`bank() + mochi(…)`": (bank() + mixes, None),
  "`in_batch() + mochi(…)`": (in_batch() + mixes, None),
  "`mochi(…) + queue(n)`": (mixes + queue(64), None),
  "`queue(n) + mochi(…)`, the hard set above n": (
    queue(64) + mochi(hard=65, mixed=8, with_anchor=4), None,
  ),
  "`in_batch() + queue(n) + hardest_only(k)`": (both + hardest_only(16), None),
  "`in_batch() + hardest_share(α)`": (in_batch() + hardest_share(0.2), None),
  "`queue(n) + hardest_only(k) + mochi(…)`": (queue(64) + hardest_only(16) + mixes, None),
  "`queue(n) + mochi(…) + hardest_only(k)`": (queue(64) + mixes + hardest_only(16), None),
  "`in_batch() + clusters(k) & negatives_differ(\"cluster\")`": (
    in_batch() + clusters(4), negatives_differ("cluster"),
  ),
  "`clusters(k) + queue(n)`": (in_batch() + clusters(4) + queue(64), None),
  "`in_batch() + noise(…)`": (
    in_batch() + noise(count=16, steps=2, size=1e-3, temperature=0.1), None,
  ),
  "`in_batch() + adversarial_negatives(…)`": (
    in_batch() + adversarial_negatives(radius=0.1, temperature=0.1), None,
  ),
  "`in_batch() + adversarial_positives(…)`": (
    in_batch() + adversarial_positives(radius=0.5, size=0.1, temperature=0.1), None,
  ),
  "`in_batch() + supremix(…)`, labels that are classes": (
    in_batch() + supremix(negatives=2, positives=0, alpha=5.0, window=1.0), None,
  ),
  "`in_batch() & similarity_within(most=…)`": (in_batch(), similarity_within(most=0.9)),
  "`in_batch() & guide_below(…)`": (in_batch(), guide_below(0.85)),
  "`in_batch() & negatives_differ(\"label\")`": (in_batch(), negatives_differ("label")),
  "`in_batch() & label_distance()`": (in_batch(), label_distance()),
}  # fmt: skip
RELATIONS = {
  "SimCLR": same_example(), "MoCo": same_example(), "MoCoV3": same_example() & other_view(),
  "NNCLR": same_example() & other_view(), "SupCon": same_label(), "IMix": virtual_labels(),
  "CLIP": same_example() & other_view(), "Pairs": same_example(),
}  # fmt: skip
TEMPERATURES = {
  "fixed": {"temperature": temperatures.fixed(0.2)},
  "scheduled": {"temperature": temperatures.scheduled(schedules.cosine(start=0.5, end=0.1, steps=9))},
  "learned": {"temperature": temperatures.learned(0.2)},
  "learned, with a bias": {"temperature": temperatures.learned(0.1, bias=-10.0)},
  "individual": {"temperature": temperatures.individual(0.2)},
  "adaptive_heads": {"temperature": temperatures.fixed(1.0), "score": adaptive_heads(heads=2)},
  "adaptive_heads, and individual": {
    "temperature": temperatures.individual(0.2), "score": adaptive_heads(heads=2),
  },
}  # fmt: skip
LOSSES = {
  "info_nce": criteria.info_nce(),
  "sup_con_in": criteria.sup_con_in(),
  "dcl": criteria.dcl(),
  "dclw": criteria.dclw(),
  "hard_negative": criteria.hard_negative(beta=0.5, tau_plus=0.05),
  "debiased": criteria.debiased(tau_plus=0.05),
  "sogclr": criteria.sogclr(0.9),
  "siglip": criteria.siglip(),
}


def method_of(kind, **parts):
  projection, jitter = encoders.projection((8,), 8), views.affine_jitter()
  networks = {"encoder": encoders.mlp((8,)), "projection": projection, "views": jitter}
  if kind in ("MoCoV3", "NNCLR"):
    networks["predictor"] = encoders.projection((8,), 8)
  if kind == "NNCLR":
    networks["support"] = 64
  if kind == "CLIP":
    networks |= {
      "inputs": ("image", "image"), "other_encoder": encoders.mlp((8,)), "other_views": jitter,
      "other_projection": projection,
    }  # fmt: skip
  if kind == "Pairs":
    networks |= {"inputs": ("image", "image"), "other_views": jitter}
  return getattr(methods, kind)(**networks, examples=EXAMPLES, **parts)


def multiview(parts) -> str:
  """Why `Multiview`, which has a loss of its own, refuses a temperature, or nothing."""
  if "score" in parts:
    return "Multiview takes no 'score'"
  projection, jitter = encoders.projection((8,), 8), views.affine_jitter()
  networks = {"encoder": encoders.mlp((8,)), "projection": projection, "views": jitter}
  return refusal(lambda: methods.Multiview(**networks, **parts, examples=EXAMPLES))


def without_a_temperature() -> list[str]:
  """The methods with a class of their own, and no temperature among its fields."""
  kinds = [kind for kind in vars(methods).values() if isinstance(kind, type)]
  return sorted(
    kind.__name__
    for kind in kinds
    if issubclass(kind, methods.BaseMethod)
    and kind not in (methods.BaseMethod, methods.Siamese, methods.Towers)
    and "temperature" not in {field.name for field in dataclasses.fields(kind)}
  )


def refusal(build: Callable[[], Method]) -> str:
  """Why the library refuses to build or to trace a method, or nothing."""
  batch = {
    "image": jnp.zeros((N, 8, 8, 1), jnp.uint8),
    "index": jnp.arange(N),
    "label": jnp.arange(N) % 4,
    "language": jnp.arange(N) % 2,
    "guide": jnp.ones((N, 5)),
  }
  key = jax.random.key(0)
  try:
    method = build()
    params, state = jax.eval_shape(lambda: method.init(key, batch))
    jax.eval_shape(lambda p, s: method.objective(p, s, batch, key), params, state)
  except UserError as error:
    return str(error)
  return ""


def table(columns, rows, cell, reasons):
  """A table of ✓, or the number of the reason."""
  lines = [f"| | {' | '.join(f'`{c}`' for c in columns)} |", "|---" * (len(columns) + 1) + "|"]
  for row in rows:
    marks = []
    for column in columns:
      reason = cell(row, column)
      if reason and reason not in reasons:
        reasons.append(reason)
      marks.append(f"({reasons.index(reason) + 1})" if reason else "✓")
    lines.append(f"| {row} | {' | '.join(marks)} |")
  return lines


def page() -> str:
  reasons = []

  @functools.cache
  def of_sources(row, kind):
    negatives, also = NEGATIVES[row]
    relation = RELATIONS[kind] if also is None else RELATIONS[kind] & also
    return refusal(lambda: method_of(kind, negatives=negatives, relation=relation))

  def of_losses(row, column):
    loss, temperature = LOSSES[row.strip("`")], TEMPERATURES[column]
    found = {
      refusal(lambda kind=kind: method_of(kind, negatives=both, loss=loss, **temperature))
      for kind in RELATIONS
    }
    return "; ".join(sorted(found - {""}))

  def of_multiview(row, column):
    return multiview(TEMPERATURES[column])

  sources = table(RELATIONS, NEGATIVES, of_sources, reasons)
  of_temperatures = []
  others = table(TEMPERATURES, [f"`{name}`" for name in LOSSES], of_losses, of_temperatures)
  rest = table(TEMPERATURES, ["`Multiview`"], of_multiview, of_temperatures)[2:]
  return "\n".join([
    "# Which parts can be combined?", "",
    "`benchmarks/combinations.py` builds the method of each cell and writes this page. ✓ marks a combination that "
    "the library accepts. A number marks a combination that it refuses, for the reason below. [negatives.md](negatives.md) describes each part.", "",
    "## Negatives and methods", "", *sources, "",
    *[f"({at}) {reason}  " for at, reason in enumerate(reasons, 1)], "",
    "## Losses and temperatures", "",
    f"These results are for `in_batch() + queue(n)`. They are the same for "
    f"{', '.join(f'`{kind}`' for kind in RELATIONS)}:", "", *others, *rest, "",
    *[f"({at}) {reason}  " for at, reason in enumerate(of_temperatures, 1)], "",
    f"`Multiview` has losses of its own. {', '.join(f'`{name}`' for name in without_a_temperature())} do not "
    "divide the similarities of pairs by a temperature, so they have no field for it. In `Siamese`, in `Towers` and in `terms=` of any method, each "
    "`Contrast` has all of these parts of its own.", "",
    "The two tables can be combined, because sources and filters do not depend on the loss, and losses do not "
    "depend on the temperature. `tests/cells.py` trains all combinations of three methods, six sets of negatives, "
    "three temperatures and four losses on digits. Each combination learns and gives the same result on one and on "
    "eight devices.", "",
  ])  # fmt: skip


if __name__ == "__main__":
  PAGE.write_text(page(), encoding="utf-8")
