"""Relations: functions that give each pair a weight as a positive and a weight as a negative.

`same_example`, `same_label` and `virtual_labels` determine positives and negatives. The others
remove pairs or change their weights. `&` joins relations by multiplying their weights:

    same_example() & similarity_within(most=0.9)
"""

from contrastax.core import Relation as Relation
from contrastax.relations.equality import other_view as other_view
from contrastax.relations.equality import same_example as same_example
from contrastax.relations.equality import same_label as same_label
from contrastax.relations.equality import virtual_labels as virtual_labels
from contrastax.relations.filters import guide_below as guide_below
from contrastax.relations.filters import label_distance as label_distance
from contrastax.relations.filters import negatives_differ as negatives_differ
from contrastax.relations.filters import negatives_share as negatives_share
from contrastax.relations.filters import similarity_within as similarity_within
