"""Methods: training objectives that combine networks, views, negatives and losses.

All views of one shape are encoded in one call. BatchNorm then uses the statistics of all these views
of the global batch; `bn_groups` of an encoder divides them into groups. Methods with a momentum keep
the moving averages of their networks in `state["target"]`.

`Siamese`, `Towers` and `Pairs` are assembled from parts. `BaseMethod` and `ContrastiveMethod` are the
bases of new methods.
"""

from contrastax.methods.barlow_twins import BarlowTwins as BarlowTwins
from contrastax.methods.base import BaseMethod as BaseMethod
from contrastax.methods.base import ContrastiveMethod as ContrastiveMethod
from contrastax.methods.base import Evaluated as Evaluated
from contrastax.methods.byol import BYOL as BYOL
from contrastax.methods.clip import CLIP as CLIP
from contrastax.methods.dino import DINO as DINO
from contrastax.methods.i_mix import IMix as IMix
from contrastax.methods.moco import MoCo as MoCo
from contrastax.methods.moco_v3 import MoCoV3 as MoCoV3
from contrastax.methods.multiview import Multiview as Multiview
from contrastax.methods.nnclr import NNCLR as NNCLR
from contrastax.methods.pairs import Pairs as Pairs
from contrastax.methods.siamese import Siamese as Siamese
from contrastax.methods.simclr import SimCLR as SimCLR
from contrastax.methods.simsiam import SimSiam as SimSiam
from contrastax.methods.sup_con import SupCon as SupCon
from contrastax.methods.swav import SwAV as SwAV
from contrastax.methods.towers import Tower as Tower
from contrastax.methods.towers import Towers as Towers
from contrastax.methods.vicreg import VICReg as VICReg
from contrastax.methods.w_mse import WMSE as WMSE
