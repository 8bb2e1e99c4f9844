"""Negatives: sources of candidates, joined by `+`."""

from contrastax.negatives.sources import Source as Source
from contrastax.negatives.sources import in_batch as in_batch
