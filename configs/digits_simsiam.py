"""SimSiam on scikit-learn's handwritten digits: 600 steps.

  contrastax run digits_simsiam            # the whole run
  contrastax run digits_simsiam:runlocal   # a run of seconds

Accuracy on 200 held-out training images (--config.validation=200):

                     kNN    linear probe, by labels per class: 1, 5, all
  raw pixels         0.975  0.609  0.855  0.970
  untrained encoder  0.925  0.531  0.806  0.960
  trained encoder    0.970  0.780  0.915  0.975

The method follows the paper (arXiv 2011.10566): SGD, and a predictor with a constant
learning rate, whose hidden layer is a quarter as wide as its input. The projection has two layers
of width 128 before the last layer, instead of 2,048. No hyperparameter was tuned.
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
    "name": "SimSiam",
    "encoder": {"name": "convnet", "widths": (32, 64, 128)},
    "projection": {"name": "projection", "widths": (128, 128), "out": 128, "norm_out": True},
    "predictor": {"name": "projection", "widths": (32,), "out": 128},
    "views": {"name": "affine_jitter"},
  }
  config.optimizer = {
    "name": "sgd",
    "learning_rate": 0.1,
    "warmup": 2 if runlocal else 50,
    "weight_decay": 1e-4,
    "constant": "^predictor/",
  }

  config.stop_on_collapse = True
  if runlocal:
    config.log_every, config.eval_every, config.checkpoint_every = 5, 10, 10
  return config
