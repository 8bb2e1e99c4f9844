"""Losses on arrays, under the names of their papers.

A loss takes arrays of vectors and returns one value per anchor; its mean is the training loss:

    losses.nt_xent(z1, z2, temperature=0.1).mean()

`uniformity`, `barlow_twins` and `vicreg` return one number for the whole batch. `sinkhorn` is not a
loss; it computes the targets of `swapped_prediction`. The losses are grouped by their inputs:

- Two views of each example, [n, d]: `nt_xent`, `info_nce`, `dcl`, `dclw`, `debiased`,
  `hard_negative`, `hard_quantile`, `dual_temperature`, `rince`, `sogclr`, `soft_contrastive`,
  `group_ordering`, `dhel`, `spectral`, `alignment`, `negative_cosine`, `barlow_twins`, `vicreg`,
  `w_mse`.
- Any number of views, [v, n, d]: `mv_info_nce`, `mv_dhel`, `poly_view`, `cacr`,
  `swapped_prediction`, `self_distillation`.
- Several modalities, each [n, d]: `clip`, `siglip`, `symile`.
- Vectors [n, d] and labels [n]: `sup_con`, `sup_con_in`, `triplet`, `n_pairs`, `circle`,
  `multi_similarity`, `soft_nearest_neighbor`.
- Vectors [n, d], labels [n] and class proxies [c, d]: `proxy_nca`, `cosface`, `arcface`.
- Vectors [n, d] only: `uniformity`, `koleo`.
- Scores of data and noise: `meco`, `binary_nce`.

A label of −1 means that a vector has no label (`contrastax.labels`). `contrastax.criteria` has
losses on groups of candidates, which methods take.

Losses over pairs take a `plan` (`contrastax.pairwise.Plan`), which determines how the pairs are
evaluated and does not change the result. Their memory is linear in the number of vectors, with
these exceptions:

- `triplet` with "batch all" and "semi-hard" mining needs [n, n] distances and n³ steps.
- `hard_quantile` gathers the hardest negatives, [2n, αN, d].
- `group_ordering` gathers k negatives per anchor, [n, k, d], and has [n, k + 1, k + 1]
  probabilities of permutations.
- `symile` without shuffles needs n^(m−1) vectors for m > 2 modalities.

`triplet`, `koleo` and `group_ordering` gather the selected vectors from all devices.
"""

from contrastax.losses.circle import circle as circle
from contrastax.losses.debiasing import debiased as debiased
from contrastax.losses.debiasing import hard_negative as hard_negative
from contrastax.losses.decoupled import dcl as dcl
from contrastax.losses.decoupled import dclw as dclw
from contrastax.losses.distillation import negative_cosine as negative_cosine
from contrastax.losses.distillation import self_distillation as self_distillation
from contrastax.losses.distillation import sinkhorn as sinkhorn
from contrastax.losses.distillation import swapped_prediction as swapped_prediction
from contrastax.losses.geometry import alignment as alignment
from contrastax.losses.geometry import koleo as koleo
from contrastax.losses.geometry import spectral as spectral
from contrastax.losses.geometry import uniformity as uniformity
from contrastax.losses.modalities import clip as clip
from contrastax.losses.modalities import siglip as siglip
from contrastax.losses.modalities import symile as symile
from contrastax.losses.moving import sogclr as sogclr
from contrastax.losses.multi_similarity import multi_similarity as multi_similarity
from contrastax.losses.multiview import cacr as cacr
from contrastax.losses.multiview import dhel as dhel
from contrastax.losses.multiview import mv_dhel as mv_dhel
from contrastax.losses.multiview import mv_info_nce as mv_info_nce
from contrastax.losses.multiview import poly_view as poly_view
from contrastax.losses.n_pairs import n_pairs as n_pairs
from contrastax.losses.ordering import group_ordering as group_ordering
from contrastax.losses.proxies import arcface as arcface
from contrastax.losses.proxies import cosface as cosface
from contrastax.losses.proxies import proxy_nca as proxy_nca
from contrastax.losses.reweighted import dual_temperature as dual_temperature
from contrastax.losses.reweighted import hard_quantile as hard_quantile
from contrastax.losses.reweighted import rince as rince
from contrastax.losses.soft import soft_contrastive as soft_contrastive
from contrastax.losses.soft_nearest_neighbor import soft_nearest_neighbor as soft_nearest_neighbor
from contrastax.losses.softmax import info_nce as info_nce
from contrastax.losses.softmax import nt_xent as nt_xent
from contrastax.losses.softmax import sup_con as sup_con
from contrastax.losses.softmax import sup_con_in as sup_con_in
from contrastax.losses.statistics import barlow_twins as barlow_twins
from contrastax.losses.statistics import vicreg as vicreg
from contrastax.losses.statistics import w_mse as w_mse
from contrastax.losses.triplet import triplet as triplet
from contrastax.losses.unnormalized import binary_nce as binary_nce
from contrastax.losses.unnormalized import meco as meco
