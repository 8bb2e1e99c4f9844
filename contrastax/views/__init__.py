"""Views: operations on batches of images, and recipes that draw random views with them.

Images are [n, h, w, c]. Recipes take uint8, or float in [0, 1]. Operations take float.
"""

from contrastax.views.augment import augment as augment
from contrastax.views.blur import gaussian_blur as gaussian_blur
from contrastax.views.color import IMAGENET_MEAN as IMAGENET_MEAN
from contrastax.views.color import IMAGENET_STD as IMAGENET_STD
from contrastax.views.color import adjust_brightness as adjust_brightness
from contrastax.views.color import adjust_contrast as adjust_contrast
from contrastax.views.color import adjust_hue as adjust_hue
from contrastax.views.color import adjust_saturation as adjust_saturation
from contrastax.views.color import jitter as jitter
from contrastax.views.color import normalize as normalize
from contrastax.views.color import sample_jitter as sample_jitter
from contrastax.views.color import solarize as solarize
from contrastax.views.color import to_gray as to_gray
from contrastax.views.crop import resized_crop as resized_crop
from contrastax.views.crop import sample_box as sample_box
from contrastax.views.draw import draw_views as draw_views
from contrastax.views.geometry import affine as affine
from contrastax.views.geometry import flip as flip
from contrastax.views.intensity import add_noise as add_noise
from contrastax.views.intensity import intensity as intensity
from contrastax.views.mix import Mixed as Mixed
from contrastax.views.mix import blend as blend
from contrastax.views.mix import cutmix as cutmix
from contrastax.views.mix import mixup as mixup
from contrastax.views.mix import paste as paste
from contrastax.views.mix import sample_partner as sample_partner
from contrastax.views.papers import byol as byol
from contrastax.views.papers import gray as gray
from contrastax.views.papers import moco_v2 as moco_v2
from contrastax.views.papers import multi_crop as multi_crop
from contrastax.views.papers import simclr as simclr
from contrastax.views.recipes import affine_jitter as affine_jitter
from contrastax.views.recipes import to_float as to_float
from contrastax.views.recipes import unchanged as unchanged
