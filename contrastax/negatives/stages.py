"""Labels for multistage contrastive learning."""

from __future__ import annotations

from numbers import Integral

import numpy as np
from jax.typing import ArrayLike

from contrastax.core import UserError


def stages(
  features: ArrayLike, earlier: ArrayLike | None = None, *, clusters: int = 10, seed: int = 0
) -> np.ndarray:
  """Computes the joint labels of examples after one more stage of multistage contrastive learning.

      label_t(i) = (label_{t−1}(i), k-means cluster of features_t(i) among all examples)

  The next stage trains a new encoder, with negatives that have the anchor's label. The features so
  far do not distinguish these negatives from the anchor, so the new encoder learns other features:

      ids = stages(features, earlier)              # features of this stage's encoder
      data = Resident({"image": images, "cluster": ids}, batch_size=1024)
      relation = same_example() & negatives_share("cluster")

  The representation is the concatenation of the features of all stages. On average, the number of
  negatives of an anchor is the batch size divided by the number of labels. So later stages need
  larger batches.

  Args:
    features: [n, d], the features of all examples from the encoder of the latest stage.
    earlier: int [n], the labels that this function returned after the previous stage; None after
      the first stage.
    clusters: the number of clusters of one stage, from 2 to n.
    seed: the seed of k-means.

  Returns:
    int32 [n], from 0 without gaps. It depends on the arguments only.

  Raises:
    UserError: features are not [n, d] or not finite, the labels have another length, or there are
      too few or too many clusters.

  Example:
    >>> import numpy as np
    >>> from contrastax import negatives
    >>> features = np.repeat([[0.0, 1.0], [5.0, 1.0]], 4, axis=0)
    >>> ids = negatives.stages(features, clusters=2)
    >>> ids.shape, len(set(ids.tolist()))
    ((8,), 2)

  References:
    Zhang et al., Learning the Unlearned (multistage contrastive learning), 2024, arXiv 2402.11816.
    The published code uses mini-batch k-means with 10 clusters.
  """
  # The import of scikit-learn is slow, and only this function needs it.
  from sklearn.cluster import MiniBatchKMeans
  from threadpoolctl import threadpool_limits

  features = np.asarray(features, np.float32)
  if features.ndim != 2:
    raise UserError(f"features must be [n, d], not {features.shape}")
  n = len(features)
  labels = np.zeros(n, int) if earlier is None else np.asarray(earlier)
  if labels.shape != (n,) or labels.dtype.kind not in "iu":
    raise UserError(
      f"earlier must be int [{n}], one label for each row of features, not {labels.dtype} "
      f"{list(labels.shape)}"
    )
  if not isinstance(clusters, Integral) or not 2 <= clusters <= n:
    raise UserError(f"clusters must be from 2 to {n}, the number of examples, not {clusters!r}")
  if not np.isfinite(features).all():
    i = np.isfinite(features).all(1).argmin()
    raise UserError(f"the features of example {i} are not finite; leave such examples out")
  k_means = MiniBatchKMeans(
    clusters,
    random_state=seed,
    n_init=3,  # pyright: ignore[reportArgumentType]  # inferred as a string from the default
  )
  with threadpool_limits(1):  # parallel sums would depend on the number of threads
    cluster = k_means.fit_predict(features)
  _, joint = np.unique(np.stack([labels, cluster], 1), axis=0, return_inverse=True)
  return joint.reshape(-1).astype(np.int32)
