"""Losses on arrays, under their papers' names; `losses.groups` has the softmax losses on groups.

Each returns one value per anchor. All are exact at any temperature and evaluated by
`contrastax.pairwise`, as their `plan` says.
"""

from contrastax.losses import groups as groups
from contrastax.losses.bimodal import clip as clip
from contrastax.losses.bimodal import siglip as siglip
from contrastax.losses.softmax import dcl as dcl
from contrastax.losses.softmax import dclw as dclw
from contrastax.losses.softmax import debiased as debiased
from contrastax.losses.softmax import hard_negative as hard_negative
from contrastax.losses.softmax import info_nce as info_nce
from contrastax.losses.softmax import nt_xent as nt_xent
from contrastax.losses.softmax import sup_con as sup_con
from contrastax.losses.softmax import sup_con_in as sup_con_in
