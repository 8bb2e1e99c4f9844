"""Relations: what counts as a positive, and what as a negative."""

from contrastax.positives.relations import Relation as Relation
from contrastax.positives.relations import other_view as other_view
from contrastax.positives.relations import same_example as same_example
from contrastax.positives.relations import same_label as same_label
from contrastax.positives.relations import virtual_labels as virtual_labels
