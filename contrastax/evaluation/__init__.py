"""Evaluation: embedding, probes, retrieval, fine-tuning, and measures of an embedding space."""

from contrastax.evaluation.embed import embed as embed
from contrastax.evaluation.finetune import fine_tune as fine_tune
from contrastax.evaluation.geometry import alignment as alignment
from contrastax.evaluation.geometry import effective_rank as effective_rank
from contrastax.evaluation.geometry import embedding_std as embedding_std
from contrastax.evaluation.geometry import lidar as lidar
from contrastax.evaluation.geometry import tolerance as tolerance
from contrastax.evaluation.geometry import uniformity as uniformity
from contrastax.evaluation.negatives import RankedNegatives as RankedNegatives
from contrastax.evaluation.negatives import ranked_negatives as ranked_negatives
from contrastax.evaluation.neighbors import knn as knn
from contrastax.evaluation.neighbors import knn_leave_one_out as knn_leave_one_out
from contrastax.evaluation.neighbors import knn_predictions as knn_predictions
from contrastax.evaluation.online import online_probe as online_probe
from contrastax.evaluation.online import with_online_probe as with_online_probe
from contrastax.evaluation.paired import accuracy_difference as accuracy_difference
from contrastax.evaluation.probes import few_label as few_label
from contrastax.evaluation.probes import mean_and_interval as mean_and_interval
from contrastax.evaluation.probes import probes as probes
from contrastax.evaluation.regression import linear as linear
from contrastax.evaluation.regression import linear_predictions as linear_predictions
from contrastax.evaluation.retrieval import retrieval as retrieval
from contrastax.evaluation.similarity import cka as cka
from contrastax.evaluation.transfer import transfer as transfer
