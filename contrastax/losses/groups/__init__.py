"""Losses on groups of candidates: what methods call. Their arguments are said in `groups.softmax`."""

from contrastax.losses.groups.moving import sogclr as sogclr
from contrastax.losses.groups.sigmoid import siglip as siglip
from contrastax.losses.groups.softmax import dcl as dcl
from contrastax.losses.groups.softmax import dclw as dclw
from contrastax.losses.groups.softmax import debiased as debiased
from contrastax.losses.groups.softmax import hard_negative as hard_negative
from contrastax.losses.groups.softmax import info_nce as info_nce
from contrastax.losses.groups.softmax import sup_con_in as sup_con_in

GIVEN = (
  "anchors", "groups", "relation", "temperature", "score", "score_params", "same_set", "memory",
  "stats", "plan", "bias",
)  # fmt: skip
"""What a method gives a loss when it calls it; the rest are a loss's own arguments."""
