"""Views: augmentations as batched pure functions, and recipes that put them together."""

from contrastax.views.geometry import affine as affine
from contrastax.views.geometry import flip as flip
from contrastax.views.intensity import add_noise as add_noise
from contrastax.views.intensity import intensity as intensity
from contrastax.views.recipes import affine_jitter as affine_jitter
from contrastax.views.recipes import to_float as to_float
