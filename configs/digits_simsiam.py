"""SimSiam on scikit-learn's handwritten digits: 600 steps, 151 s on two busy cores.

  python -m experiments.run --config=configs/digits_simsiam.py            # the whole run
  python -m experiments.run --config=configs/digits_simsiam.py:runlocal   # seconds, to see it work

On 200 held-out training images (--config.validation=200) kNN and the linear probes with 1, 5 and
all labels per class reach 0.970, 0.780, 0.915 and 0.975; in pixels 0.975, 0.609, 0.855 and 0.970,
in the untrained encoder 0.925, 0.531, 0.806 and 0.960.

The form is the paper's (arXiv 2011.10566): SGD, the predictor a bottleneck of a quarter of its
input, whose rate does not fall; two layers of 128 before the projection's last in place of 2,048.
Nothing was tuned.
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
