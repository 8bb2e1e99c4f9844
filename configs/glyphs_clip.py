"""CLIP on characters of fonts and their Unicode names: 1,000 steps, no download.

contrastax run glyphs_clip            # the whole run
contrastax run glyphs_clip:runlocal   # a run of seconds
"""

from ml_collections import ConfigDict


def get_config(arg: str = "") -> ConfigDict:
  if arg not in ("", "runlocal"):
    raise ValueError(f"no preset {arg!r}; there is: runlocal")
  runlocal = arg == "runlocal"
  config = ConfigDict()

  config.data = {"name": "glyphs", "size": 16 if runlocal else 32}
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
