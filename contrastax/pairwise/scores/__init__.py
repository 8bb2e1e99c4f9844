"""Scores: functions that measure how similar two vectors are."""

from contrastax.pairwise.scores.heads import adaptive_heads as adaptive_heads
from contrastax.pairwise.scores.heads import multi_head as multi_head
from contrastax.pairwise.scores.similarity import bilinear as bilinear
from contrastax.pairwise.scores.similarity import cosine as cosine
from contrastax.pairwise.scores.similarity import dot as dot
from contrastax.pairwise.scores.similarity import multilinear as multilinear
from contrastax.pairwise.scores.similarity import (
  negative_squared_distance as negative_squared_distance,
)
from contrastax.pairwise.scores.similarity import side_by_side as side_by_side
