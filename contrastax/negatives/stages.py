"""Labels for multistage contrastive learning."""

from __future__ import annotations

from numbers import Integral

import numpy as np

from contrastax.core import UserError


def stages(features, earlier=None, *, clusters: int = 10, seed: int = 0):
  """The joint labels of examples after one more stage of multistage contrastive learning.

    label_t(i) = (label_{t−1}(i), k-means cluster of features_t(i) among all examples)

  The next stage trains a new encoder with negatives of the anchor's own label only, which what
  was learned so far does not tell apart; so it learns something else:

    ids = stages(features, earlier)              # of the encoder of this stage
    data = Resident({"image": images, "cluster": ids}, batch_size=1024)
    relation = same_example() & negatives_share("cluster")

  The representation is the concatenation of all stages' features. An anchor of a batch b has on
  average about b over the number of labels negatives, so batches grow with the stages.

  Args:
    features: [n, d], of the encoder that the last stage trained, for all examples.
    earlier: what this function returned for the stage before, int [n]; None: the first stage.
    clusters: of one stage, from 2 to n. seed: of k-means.

  Returns:
    int32 [n], from 0 without gaps; a function of its arguments.

  Zhang et al. 2024, arXiv 2402.11816; mini-batch k-means of 10 clusters is its published code's.

  Raises:
    UserError for features that are not [n, d] or not finite, labels of another length, too few
    or too many clusters.
  """
  from sklearn.cluster import MiniBatchKMeans  # slow to import, and needed only here
  from threadpoolctl import threadpool_limits

  features = np.asarray(features, np.float32)
  if features.ndim != 2:
    raise UserError(f"features are [n, d], not {features.shape}")
  n = len(features)
  earlier = np.zeros(n, int) if earlier is None else np.asarray(earlier)
  if earlier.shape != (n,) or earlier.dtype.kind not in "iu":
    raise UserError(
      f"earlier labels are int [{n}], one for each row of features, not {earlier.dtype} "
      f"{list(earlier.shape)}"
    )
  if not isinstance(clusters, Integral) or not 2 <= clusters <= n:
    raise UserError(f"clusters are from 2 to the {n} examples, not {clusters!r}")
  if not np.isfinite(features).all():
    at = np.isfinite(features).all(1).argmin()
    raise UserError(f"the features of example {at} are not finite; leave out what is broken")
  k_means = MiniBatchKMeans(clusters, random_state=seed, n_init=3)
  with threadpool_limits(1):  # sums in parallel would depend on the number of threads
    now = k_means.fit_predict(features)
  _, joint = np.unique(np.stack([earlier, now], 1), axis=0, return_inverse=True)
  return joint.reshape(-1).astype(np.int32)
