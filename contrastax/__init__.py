"""contrastax: exact, composable contrastive representation learning in JAX.

Each part is a subpackage: `methods`, `terms`, `losses`, `criteria`, `encoders`, `views`,
`negatives`, `relations`, `temperatures`, `data`, `training`, `evaluation`, `reporting`, `pairwise`.
"""

from contrastax.core import UserError as UserError
from contrastax.training.load import load as load
