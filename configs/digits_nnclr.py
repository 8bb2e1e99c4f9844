"""NNCLR on scikit-learn's handwritten digits: 600 steps, 217 s on two busy cores.

  python -m experiments.run --config=configs/digits_nnclr.py            # the whole run
  python -m experiments.run --config=configs/digits_nnclr.py:runlocal   # seconds, to see it work

On 200 held-out training images (--config.validation=200) kNN and the linear probes with 1, 5 and
all labels per class reach 0.975, 0.764, 0.924 and 0.990; in pixels 0.975, 0.609, 0.855 and 0.970,
in the untrained encoder 0.925, 0.531, 0.806 and 0.960.

The form is the paper's (arXiv 2104.14548): τ = 0.1, BatchNorm after the projection. The support set
of 1,024 vectors, in place of 98,304, is below an epoch of 1,297 images. Nothing was tuned.
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
    "name": "NNCLR",
    "encoder": {"name": "convnet", "widths": (32, 64, 128)},
    "projection": {"name": "projection", "widths": (128,), "out": 64, "norm_out": True},
    "predictor": {"name": "projection", "widths": (128,), "out": 64},
    "views": {"name": "affine_jitter"},
    "temperature": {"name": "fixed", "temperature": 0.1},
    "support": 1024,
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
