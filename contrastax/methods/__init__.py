"""Methods: how views, encoder, negatives and loss make one training objective."""

from contrastax.methods.simclr import SimCLR as SimCLR
