"""Training: the train step on a mesh, the training loop, checkpoints, logs and refreshes."""

from contrastax.training.average import evaluated_weights as evaluated_weights
from contrastax.training.average import with_average as with_average
from contrastax.training.checkpoints import Checkpoints as Checkpoints
from contrastax.training.load import load as load
from contrastax.training.loggers import Loggers as Loggers
from contrastax.training.loop import train as train
from contrastax.training.mesh import block_on_virtual_devices as block_on_virtual_devices
from contrastax.training.mesh import make_mesh as make_mesh
from contrastax.training.mesh import replicated as replicated
from contrastax.training.mesh import sharded as sharded
from contrastax.training.mined import clustered as clustered
from contrastax.training.mined import mined as mined
from contrastax.training.refresh import Refresh as Refresh
from contrastax.training.signals import Interrupted as Interrupted
from contrastax.training.signals import Stop as Stop
from contrastax.training.step import init as init
from contrastax.training.step import make_train_step as make_train_step
