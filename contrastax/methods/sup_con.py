"""SupCon: SimCLR whose positives are all vectors of the same label."""

from __future__ import annotations

import dataclasses

from contrastax.core import Temperature
from contrastax.methods.simclr import SimCLR
from contrastax.relations import Relation, same_label
from contrastax.temperatures import fixed


@dataclasses.dataclass(frozen=True, kw_only=True)
class SupCon(SimCLR):
  """SupCon (Khosla et al. 2020, arXiv 2004.11362, eq. 2).

    L_i = mean over the p ≠ i of i's label of −log( e^{z_i·z_p/τ} / Σ_{j ≠ i} e^{z_i·z_j/τ} )

  `loss=criteria.sup_con_in()` is its eq. 3. The paper's: τ = 0.1, batch 6,144, and a linear
  classifier on the frozen encoder afterwards: `evaluation.linear`. Its code multiplies by
  τ/0.07, and so does a learning rate that is copied from it.

  Needs labels in training; for the fields see `SimCLR`.
  """

  temperature: Temperature = fixed(0.1)
  relation: Relation = same_label()
