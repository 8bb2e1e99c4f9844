"""Losses on arrays, under their papers' names; `losses.groups` has them on groups.

Each returns one value per anchor. All are exact at any temperature and evaluated by
`contrastax.pairwise`.
"""

from contrastax.losses import groups as groups
from contrastax.losses.softmax import dcl as dcl
from contrastax.losses.softmax import info_nce as info_nce
from contrastax.losses.softmax import nt_xent as nt_xent
