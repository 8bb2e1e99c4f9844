"""SupCon: supervised contrastive learning."""

from __future__ import annotations

import dataclasses

from contrastax.core import Temperature
from contrastax.methods.simclr import SimCLR
from contrastax.relations import Relation, same_label
from contrastax.temperatures import fixed


@dataclasses.dataclass(frozen=True, kw_only=True)
class SupCon(SimCLR):
  """SupCon: all vectors of the anchor's label are positives.

      L_i = mean over p ≠ i with the label of i: −log( e^{z_i·z_p/τ} / Σ_{j ≠ i} e^{z_i·z_j/τ} )

  The batch needs a field `label`. `loss=criteria.sup_con_in()` gives eq. 3 of the paper. The paper
  uses τ = 0.1 and batches of 6,144. After that it trains a linear classifier on the frozen encoder
  (`evaluation.linear`).

  The arguments are those of `SimCLR`.

  Example:
    >>> from contrastax import encoders, methods, views
    >>> method = methods.SupCon(
    ...   encoder=encoders.convnet(),
    ...   projection=encoders.projection(),
    ...   views=views.simclr(32),
    ... )

  References:
    Khosla et al., "Supervised contrastive learning", 2020, arXiv 2004.11362, eq. 2.

  In other libraries:
    The code of the paper multiplies the loss by τ/0.07. Scale a learning rate that is taken from it
    accordingly.
  """

  temperature: Temperature | float = fixed(0.1)
  relation: Relation = same_label()
