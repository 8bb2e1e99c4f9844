"""Relations: what counts as a positive, and what as a negative."""

from contrastax.relations.equality import Relation as Relation
from contrastax.relations.equality import other_view as other_view
from contrastax.relations.equality import same_example as same_example
from contrastax.relations.equality import same_label as same_label
from contrastax.relations.equality import virtual_labels as virtual_labels
from contrastax.relations.filters import guide_below as guide_below
from contrastax.relations.filters import label_distance as label_distance
from contrastax.relations.filters import negatives_differ as negatives_differ
from contrastax.relations.filters import negatives_share as negatives_share
from contrastax.relations.filters import similarity_within as similarity_within
