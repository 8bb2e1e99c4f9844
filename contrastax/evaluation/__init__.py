"""Evaluation: probes of frozen features, and the geometry of the space."""

from contrastax.evaluation.embed import embed as embed
from contrastax.evaluation.geometry import alignment as alignment
from contrastax.evaluation.geometry import effective_rank as effective_rank
from contrastax.evaluation.geometry import embedding_std as embedding_std
from contrastax.evaluation.geometry import tolerance as tolerance
from contrastax.evaluation.geometry import uniformity as uniformity
from contrastax.evaluation.probes import few_label as few_label
from contrastax.evaluation.probes import knn as knn
from contrastax.evaluation.probes import knn_leave_one_out as knn_leave_one_out
from contrastax.evaluation.probes import linear as linear
from contrastax.evaluation.probes import probes as probes
