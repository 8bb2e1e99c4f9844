"""W-MSE on scikit-learn's handwritten digits: 600 steps.

  contrastax run digits_w_mse            # the whole run
  contrastax run digits_w_mse:runlocal   # a run of seconds

Accuracy on 200 held-out training images (--config.validation=200):

                     kNN    linear probe, by labels per class: 1, 5, all
  raw pixels         0.975  0.609  0.855  0.970
  untrained encoder  0.925  0.531  0.806  0.960
  trained encoder    0.975  0.825  0.939  0.985

The method follows the paper (arXiv 2007.06346), with slices of 128 examples. The embedding that
is whitened has 32 dimensions instead of 64, so that a slice has four times as many examples as
dimensions. No hyperparameter was tuned.
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
    "name": "WMSE",
    "encoder": {"name": "convnet", "widths": (32, 64, 128)},
    "projection": {"name": "projection", "widths": (128,), "out": 32},
    "views": {"name": "affine_jitter"},
    "slices": 2,
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
