"""Questions and passages with given negatives (DPR: Karpukhin et al. 2020, arXiv 2004.04906).

The name of a NumPy function is the question, its first sentence the passage, and two sentences of
other functions are given as negatives. `hard_index` tells which, so that they are no negatives of
the function that they belong to.
"""

import numpy as np
from parts import byte_encoder, documentation

from contrastax import data, encoders, methods, temperatures

method = methods.Pairs(
  encoder=byte_encoder(),
  projection=encoders.projection((32,), 32),
  inputs=("name", "text"),
  negative="hard_text",
  negative_index="hard_index",
  temperature=temperatures.fixed(0.1),
)


def source(**how):
  fields = documentation()
  size = len(fields["name"])
  hard = (np.arange(size)[:, None] + [1, 7]) % size
  related = {"hard": data.Related(hard.astype(np.int32), fields=("text",))}
  return data.Resident(fields, batch_size=64, related=related, **how)
