"""Negatives: sources of candidates, joined by `+`."""

from contrastax.negatives.sources import NegativeSource as NegativeSource
from contrastax.negatives.sources import in_batch as in_batch
