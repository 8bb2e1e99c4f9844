"""The pairwise engine: scores of all pairs of two sets of vectors, reduced over the candidates.

`reduce` evaluates the channels of a loss for every pair of an anchor and a candidate, and reduces
each channel over the candidates. A `Plan` selects how the pairs are evaluated: dense, in tiles, or
in tiles around a ring of devices. `top_k` is an exact nearest-neighbor search on the same engine.
"""

from contrastax.pairwise.plan import Plan as Plan
from contrastax.pairwise.reduce import reduce as reduce
from contrastax.pairwise.reductions import count as count
from contrastax.pairwise.reductions import log_sum_exp as log_sum_exp
from contrastax.pairwise.reductions import max_ as max_
from contrastax.pairwise.reductions import min_ as min_
from contrastax.pairwise.reductions import softmax_mean as softmax_mean
from contrastax.pairwise.reductions import sum_ as sum_
from contrastax.pairwise.scores import adaptive_heads as adaptive_heads
from contrastax.pairwise.scores import bilinear as bilinear
from contrastax.pairwise.scores import cosine as cosine
from contrastax.pairwise.scores import dot as dot
from contrastax.pairwise.scores import multi_head as multi_head
from contrastax.pairwise.scores import multilinear as multilinear
from contrastax.pairwise.scores import negative_squared_distance as negative_squared_distance
from contrastax.pairwise.scores import side_by_side as side_by_side
from contrastax.pairwise.scores.precision import unit as unit
from contrastax.pairwise.search import top_k as top_k
