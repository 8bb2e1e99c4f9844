"""CLIP of code and docstrings."""

from ml_collections import ConfigDict


def get_config(arg: str = "") -> ConfigDict:
  if arg not in ("", "runlocal"):
    raise ValueError(f"no preset {arg!r}; there is: runlocal")
  runlocal = arg == "runlocal"
  config = ConfigDict()

  config.data = "docstrings"
  config.batch_size = 16 if runlocal else 64
  config.steps = 6 if runlocal else 600

  config.method = {
    "name": "CLIP",
    "inputs": ("code", "text"),
    "encoder": {"name": "text", "width": 64, "depth": 1, "heads": 2},
    "projection": {"name": "projection", "widths": (), "out": 64},
    "other_encoder": {"name": "text", "width": 64, "depth": 1, "heads": 2},
    "other_projection": {"name": "projection", "widths": (), "out": 64},
    "views": {"name": "unchanged"},
    "temperature": {"name": "learned", "temperature": 0.07},
  }
  config.optimizer = {
    "name": "adamw",
    "learning_rate": 2e-3,
    "warmup": 2 if runlocal else 60,
    "weight_decay": 1e-4,
  }

  config.log_every = 2 if runlocal else 20
  config.eval_every = config.checkpoint_every = 3 if runlocal else 300
  return config
