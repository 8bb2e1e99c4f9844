"""One character in two fonts is a positive pair: 600 steps on glyphs, no download.

  contrastax run glyphs_fonts            # the whole run
  contrastax run glyphs_fonts:runlocal   # a short run with small images of two fonts

A test image finds the same character in another font as its nearest neighbor among 4,922 test images
in a share of 0.545, and pixels do so in a share of 0.504 (`studies/real_data.py`). Accuracy on the
test images:

                     kNN    linear probe, by labels per class: 1, 5, all
  raw pixels         0.762  0.140  0.253  0.678
  untrained encoder  0.602  0.117  0.191  0.554
  trained encoder    0.664  0.159  0.266  0.680

The characters determine the pairs, and the classes are the first words of their names. No
hyperparameter was tuned; the learning rate is that of glyphs_clip.
"""

from ml_collections import ConfigDict


def get_config(arg: str = "") -> ConfigDict:
  if arg not in ("", "runlocal"):
    raise ValueError(f"no preset {arg!r}; there is: runlocal")
  runlocal = arg == "runlocal"
  config = ConfigDict()

  small = {"name": "glyphs", "size": 16, "fonts": ("DejaVuSansMono", "DejaVuSerif")}
  config.data = small if runlocal else "glyphs"
  config.batch_size = 32 if runlocal else 256
  config.steps = 20 if runlocal else 600
  config.related = {"other": "next_font"}

  config.method = {
    "name": "Pairs",
    "inputs": ("image", "other_image"),
    "encoder": {"name": "convnet", "widths": (32, 64, 128)},
    "projection": {"name": "projection", "widths": (128,), "out": 64},
    "views": {"name": "affine_jitter"},
    "other_views": {"name": "affine_jitter"},
    "temperature": {"name": "fixed", "temperature": 0.1},
    # The same character in a third font is no negative.
    "relation": ({"name": "same_example"}, {"name": "negatives_differ", "by": "character"}),
  }
  config.optimizer = {
    "name": "adamw",
    "learning_rate": 5e-3,
    "warmup": 2 if runlocal else 60,
    "weight_decay": 1e-4,
  }

  config.log_every = 5 if runlocal else 20
  config.eval_every = config.checkpoint_every = 10 if runlocal else 300
  return config
