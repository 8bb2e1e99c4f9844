"""Symile (Saporta et al. 2024, arXiv 2411.01053) of three modalities, some of which are missing.

The modalities are the left half, the right half and the row sums of a digit. An example that lacks
one has no part in the loss, neither as anchor nor as candidate.
"""

import dataclasses

import jax.numpy as jnp
import numpy as np
from parts import digits

from contrastax import data, encoders, methods, temperatures
from contrastax.core import join
from contrastax.pairwise import multilinear, unit
from contrastax.paths import pick
from contrastax.relations import negatives_share, same_example
from contrastax.terms import Contrast
from contrastax.terms.groups import of_examples


@dataclasses.dataclass(frozen=True, kw_only=True)
class Symile(Contrast):
  """Each modality is matched with the product of the others; `present` are paths of [n] bools."""

  of: tuple[str, ...]
  present: tuple[str, ...]

  def groups(self, seen):
    z = [unit(next(iter(pick(seen, path).values()))) for path in self.of]
    weight = jnp.ones(len(z[0]), z[0].dtype)
    for path in self.present:
      weight = weight * pick(seen, path)[None].astype(weight.dtype)
    anchors, keys = [], []
    for number, own in enumerate(z):
      others = jnp.concatenate([x for i, x in enumerate(z) if i != number], -1)
      direction = jnp.full(len(own), number)
      seen_as = {"direction": direction, "weight": weight, "as_positive": weight}
      anchors.append(of_examples(seen, own, 0).attach(**seen_as))
      keys.append(of_examples(seen, others, 1).attach(**seen_as))
    return join(*anchors), join(*keys), ()


tower = {"encoder": encoders.mlp((32,)), "projection": encoders.projection((32,), 16)}
names = ("left", "right", "sums")
method = methods.Towers(
  towers=tuple(methods.Tower(tag=name, input=name, **tower) for name in names),
  terms=(
    Symile(
      of=names, present=("batch.has_right", "batch.has_sums"), keys="others",
      relation=same_example() & negatives_share("direction"), score=multilinear(2),
      temperature=temperatures.learned(0.1), average="with positives",
    ),
  ),
)  # fmt: skip


def source(**how):
  image, draw = digits["image"], np.random.default_rng(0)
  fields = {"left": image[:, :, :4], "right": image[:, :, 4:]}
  fields["sums"] = np.float32(image.sum((2, 3)) / 2040)
  fields |= {f"has_{name}": draw.random(len(image)) < 0.7 for name in names[1:]}
  return data.Resident(fields, batch_size=64, **how)
