"""Negatives: parts that add candidates or select among them, and functions that mine negatives.

`a + b` applies part a, then part b.
"""

from contrastax.negatives.adversarial import adversarial_negatives as adversarial_negatives
from contrastax.negatives.adversarial import adversarial_positives as adversarial_positives
from contrastax.negatives.arrays import on_arrays as on_arrays
from contrastax.negatives.bank import bank as bank
from contrastax.negatives.clusters import clusters as clusters
from contrastax.negatives.mining import mine as mine
from contrastax.negatives.mixing import between as between
from contrastax.negatives.mixing import mochi as mochi
from contrastax.negatives.noise import noise as noise
from contrastax.negatives.queue import entries as entries
from contrastax.negatives.queue import queue as queue
from contrastax.negatives.queue import queues as queues
from contrastax.negatives.rank_band import rank_band as rank_band
from contrastax.negatives.selection import hardest as hardest
from contrastax.negatives.selection import hardest_only as hardest_only
from contrastax.negatives.selection import hardest_share as hardest_share
from contrastax.negatives.shuffles import shuffles as shuffles
from contrastax.negatives.sources import NegativeSource as NegativeSource
from contrastax.negatives.sources import in_batch as in_batch
from contrastax.negatives.sources import rng_per_vector as rng_per_vector
from contrastax.negatives.stages import stages as stages
from contrastax.negatives.supremix import supremix as supremix
