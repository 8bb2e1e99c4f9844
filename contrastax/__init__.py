"""contrastax: exact, composable contrastive representation learning in JAX.

Each kind of part has a subpackage: `losses`, `criteria`, `encoders`, `views`, `negatives`,
`relations`, `temperatures`, `terms`, `methods`, `data`, `training`, `evaluation`, `reporting` and
`pairwise`. A subpackage is imported when it is first used, so `import contrastax` is fast.

Example:
  >>> import contrastax
  >>> contrastax.losses.nt_xent.__name__
  'nt_xent'
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  from contrastax import criteria as criteria
  from contrastax import data as data
  from contrastax import encoders as encoders
  from contrastax import evaluation as evaluation
  from contrastax import losses as losses
  from contrastax import methods as methods
  from contrastax import negatives as negatives
  from contrastax import pairwise as pairwise
  from contrastax import relations as relations
  from contrastax import reporting as reporting
  from contrastax import schedules as schedules
  from contrastax import temperatures as temperatures
  from contrastax import terms as terms
  from contrastax import training as training
  from contrastax import views as views
  from contrastax.core import TrainingDiverged as TrainingDiverged
  from contrastax.core import UserError as UserError
  from contrastax.experiments.embed import embed_data as embed_data
  from contrastax.experiments.export import export as export
  from contrastax.experiments.fit import fit as fit
  from contrastax.experiments.search import search as search
  from contrastax.training.load import load as load

__version__ = "0.2.0"

__all__ = [
  "TrainingDiverged",
  "UserError",
  "criteria",
  "data",
  "embed_data",
  "encoders",
  "evaluation",
  "export",
  "fit",
  "load",
  "losses",
  "methods",
  "negatives",
  "pairwise",
  "relations",
  "reporting",
  "schedules",
  "search",
  "temperatures",
  "terms",
  "training",
  "views",
]

_MODULE_OF = {
  "TrainingDiverged": "contrastax.core",
  "UserError": "contrastax.core",
  "embed_data": "contrastax.experiments.embed",
  "export": "contrastax.experiments.export",
  "fit": "contrastax.experiments.fit",
  "load": "contrastax.training.load",
  "search": "contrastax.experiments.search",
}


def __getattr__(name: str) -> Any:
  """Imports a subpackage or a name of `_MODULE_OF` when it is first used (PEP 562)."""
  if name not in __all__:
    raise AttributeError(f"module 'contrastax' has no attribute {name!r}")
  if name in _MODULE_OF:
    value = getattr(importlib.import_module(_MODULE_OF[name]), name)
  else:
    value = importlib.import_module(f"contrastax.{name}")
  globals()[name] = value
  return value


def __dir__() -> list[str]:
  return sorted({*globals(), *__all__})
