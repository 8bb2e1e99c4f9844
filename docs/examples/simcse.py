"""SimCSE (Gao et al. 2021, arXiv 2104.08821): two views of a sentence differ by dropout alone."""

from parts import byte_encoder, documentation

from contrastax import data, encoders, methods, temperatures, views
from contrastax.relations import other_view, same_example

method = methods.SimCLR(
  encoder=byte_encoder(dropout=0.1),
  projection=encoders.projection((32,), 32),
  views=views.unchanged(),
  input="text",
  temperature=temperatures.fixed(0.05),
  relation=same_example() & other_view(),
)


def source(**how):
  return data.Resident(documentation(), batch_size=64, **how)
