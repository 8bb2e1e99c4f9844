"""Real data sets that `contrastax prepare NAME` makes from packages of Debian.

A prepared data set is one npz file in the folder $CONTRASTAX_DATA_DIR, or
~/.local/share/contrastax. `data.load(NAME)` reads it.
"""

from contrastax.data.prepared.files import Preparation as Preparation
from contrastax.data.prepared.files import load_prepared as load_prepared
from contrastax.data.prepared.files import loader as loader
from contrastax.data.prepared.registry import PREPARED as PREPARED
from contrastax.data.prepared.registry import prepare as prepare
