"""DINO on scikit-learn's handwritten digits: 600 steps.

  contrastax run digits_dino            # the whole run
  contrastax run digits_dino:runlocal   # a run of seconds

Accuracy on 200 held-out training images (--config.validation=200):

                     kNN    linear probe, by labels per class: 1, 5, all
  raw pixels         0.975  0.609  0.855  0.970
  untrained encoder  0.925  0.531  0.806  0.960
  trained encoder    0.975  0.832  0.932  0.985

The temperatures and the momentum of the center are those of the paper (arXiv 2104.14294). There
are 256 prototypes instead of 65,536, and they are frozen for the first epoch of five steps. The
momentum of the teacher starts at 0.99 instead of 0.996, because the run has only 600 steps. There
are two views, because a small crop of 8×8 pixels does not show a digit. No hyperparameter was
tuned.
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
    "name": "DINO",
    "encoder": {"name": "convnet", "widths": (32, 64, 128)},
    "projection": {"name": "projection", "widths": (128,), "out": 64},
    "prototypes": {"name": "prototypes", "count": 256},
    "views": {"name": "affine_jitter"},
    "frozen_steps": 5,
    "momentum": {"name": "cosine", "start": 0.99, "end": 1.0},
    "teacher_temperature": {"name": "linear", "start": 0.04, "end": 0.07, "over": 0.1},
  }
  config.optimizer = {
    "name": "adamw",
    "learning_rate": 4e-3,
    "warmup": 2 if runlocal else 50,
    "weight_decay": 1e-4,
  }

  config.stop_on_collapse = True
  if runlocal:
    config.log_every, config.eval_every, config.checkpoint_every = 5, 10, 10
  return config
