"""SimCLR on scikit-learn's handwritten digits: 600 steps, no download.

  contrastax run digits_simclr            # the whole run
  contrastax run digits_simclr:runlocal   # a run of seconds

There are 1,297 training and 500 test images of 8×8 pixels. The hyperparameters were chosen on 200
held-out training images (--config.validation=200).
"""

from ml_collections import ConfigDict


def get_config(arg: str = "") -> ConfigDict:
  if arg not in ("", "runlocal"):
    raise ValueError(f"no preset {arg!r}; there is: runlocal")
  runlocal = arg == "runlocal"
  config = ConfigDict()

  config.data = "digits"
  config.batch_size = 256
  config.steps = 20 if runlocal else 600

  config.method = {
    "name": "SimCLR",
    "encoder": {"name": "convnet", "widths": (32, 64, 128)},
    "projection": {"name": "projection", "widths": (128,), "out": 64},
    "views": {"name": "affine_jitter"},
    "temperature": {"name": "fixed", "temperature": 0.5},
  }
  config.optimizer = {
    "name": "adamw",
    "learning_rate": 4e-3,
    "warmup": 2 if runlocal else 50,
    "weight_decay": 1e-4,
  }

  if runlocal:
    config.log_every, config.eval_every, config.checkpoint_every = 5, 10, 10
  return config
