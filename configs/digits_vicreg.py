"""VICReg on scikit-learn's handwritten digits: 600 steps.

  contrastax run digits_vicreg            # the whole run
  contrastax run digits_vicreg:runlocal   # a run of seconds

Accuracy on 200 held-out training images (--config.validation=200):

                     kNN    linear probe, by labels per class: 1, 5, all
  raw pixels         0.975  0.609  0.855  0.970
  untrained encoder  0.925  0.531  0.806  0.960
  trained encoder    0.980  0.858  0.945  0.985

The weights are those of the paper (arXiv 2105.04906). The projection has one hidden layer of 256
instead of two of 8,192, and the optimizer is AdamW instead of LARS. No hyperparameter was tuned.
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
    "name": "VICReg",
    "encoder": {"name": "convnet", "widths": (32, 64, 128)},
    "projection": {"name": "projection", "widths": (256,), "out": 256},
    "views": {"name": "affine_jitter"},
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
