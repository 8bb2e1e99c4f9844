"""Relations: what counts as a positive, and what as a negative."""

from contrastax.positives.filters import guide_below as guide_below
from contrastax.positives.filters import label_distance as label_distance
from contrastax.positives.filters import negatives_differ as negatives_differ
from contrastax.positives.filters import negatives_share as negatives_share
from contrastax.positives.filters import similarity_within as similarity_within
from contrastax.positives.relations import Relation as Relation
from contrastax.positives.relations import other_view as other_view
from contrastax.positives.relations import same_example as same_example
from contrastax.positives.relations import same_label as same_label
from contrastax.positives.relations import virtual_labels as virtual_labels
