"""CLIP on characters of fonts and their Unicode names: 1,000 steps, no download.

  contrastax run glyphs_clip            # the whole run
  contrastax run glyphs_clip:runlocal   # a short run with small images of two fonts

The 1,400 test names are new combinations of words that occur in training. A test image finds its
name among the first 10 of these names in a share of 0.305, and as the first in 0.056; by chance the
share of 10 is 0.007 (`studies/real_data.py`). Accuracy on the test images:

                     kNN    linear probe, by labels per class: 1, 5, all
  raw pixels         0.762  0.140  0.253  0.678
  untrained encoder  0.602  0.117  0.191  0.554
  trained encoder    0.698  0.178  0.305  0.683

The classes are the first words of the names, so compare the probes with those of SupCon and not of
SimCLR. Raw pixels are better at kNN.

The learning rate was chosen from 2e-3 and 5e-3 on 2,000 held-out training images
(--config.validation=2000), by recall@10.
"""

from ml_collections import ConfigDict


def get_config(arg: str = "") -> ConfigDict:
  if arg not in ("", "runlocal"):
    raise ValueError(f"no preset {arg!r}; there is: runlocal")
  runlocal = arg == "runlocal"
  config = ConfigDict()

  small = {"name": "glyphs", "size": 16, "fonts": ("DejaVuSansMono", "DejaVuSerif")}
  config.data = small if runlocal else "glyphs"
  config.batch_size = 32 if runlocal else 128
  config.steps = 20 if runlocal else 1000

  config.method = {
    "name": "CLIP",
    "encoder": {"name": "convnet", "widths": (32, 64, 128)},
    "projection": {"name": "projection", "widths": (), "out": 64},
    "other_encoder": {"name": "text", "width": 64, "depth": 1},
    "other_projection": {"name": "projection", "widths": (), "out": 64},
    "views": {"name": "affine_jitter"},
    "temperature": {"name": "learned", "temperature": 0.07},
    # The same character in another font has the same name, so it is no negative.
    "relation": (
      {"name": "same_example"},
      {"name": "other_view"},
      {"name": "negatives_differ", "by": "character"},
    ),
  }
  config.optimizer = {
    "name": "adamw",
    "learning_rate": 5e-3,
    "warmup": 2 if runlocal else 100,
    "weight_decay": 1e-4,
  }

  config.log_every = 5 if runlocal else 20
  config.eval_every = config.checkpoint_every = 10 if runlocal else 500
  return config
