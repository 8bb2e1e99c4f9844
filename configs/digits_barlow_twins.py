"""Barlow Twins on scikit-learn's handwritten digits: 600 steps, 149 s on two busy cores.

  python -m experiments.run --config=configs/digits_barlow_twins.py            # the whole run
  python -m experiments.run --config=configs/digits_barlow_twins.py:runlocal   # seconds, to see it work

On 200 held-out training images (--config.validation=200) kNN and the linear probes with 1, 5 and
all labels per class reach 0.960, 0.838, 0.928 and 0.975; in pixels 0.975, 0.609, 0.855 and 0.970,
in the untrained encoder 0.925, 0.531, 0.806 and 0.960.

λ is the paper's (arXiv 2103.03230); the projection has one hidden layer of 256 in place of two of
8,192, the optimizer is AdamW in place of LARS. Nothing was tuned.
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
    "name": "BarlowTwins",
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
