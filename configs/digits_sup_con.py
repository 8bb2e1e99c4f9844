"""SupCon on scikit-learn's handwritten digits: 600 steps, 264 s on two busy cores.

  python -m experiments.run --config=configs/digits_sup_con.py            # the whole run
  python -m experiments.run --config=configs/digits_sup_con.py:runlocal   # seconds, to see it work

On 200 held-out training images (--config.validation=200) kNN and the linear probes with 1, 5 and
all labels per class reach 0.990, 0.935, 0.980 and 0.995; in pixels 0.975, 0.609, 0.855 and 0.970,
in the untrained encoder 0.925, 0.531, 0.806 and 0.960.

The form is the paper's (arXiv 2004.11362): τ = 0.1. It has seen all labels of its training images,
so its probes with few labels are not to be compared with other methods'. Nothing was tuned.
"""

from ml_collections import ConfigDict


def get_config(arg: str = "") -> ConfigDict:
  if arg not in ("", "runlocal"):
    raise ValueError(f"no preset {arg!r}; there is: runlocal")
  runlocal = arg == "runlocal"
  config = ConfigDict()

  config.data = "digits"
  config.validation = 0  # so many training images held out, to judge on instead of the test images
  config.batch_size = 256
  config.steps = 20 if runlocal else 600
  config.seed = 0

  config.method = {"name": "SupCon"}
  config.encoder = {"name": "convnet", "widths": (32, 64, 128)}
  config.projection = {"name": "projection", "widths": (128,), "out": 64}
  config.views = {
    "name": "affine_jitter",
    "shift": 0.1,
    "scale": 0.15,
    "rotation": 10.0,
    "intensity": 0.3,
    "noise": 0.1,
    "mirror": 0.0,
  }
  config.loss = {"name": "info_nce"}
  config.temperature = {"name": "fixed", "temperature": 0.1}
  config.score = {"name": "cosine"}
  config.negatives = ({"name": "in_batch"},)  # joined by +
  config.relation = ({"name": "same_label"},)  # joined by &

  config.optimizer = {
    "name": "adamw",
    "learning_rate": 4e-3,
    "warmup": 2 if runlocal else 50,
    "weight_decay": 1e-4,
  }

  config.online_probe = False  # a linear probe beside the encoder, to watch the run by
  config.stop_on_collapse = False
  config.log_every = 5 if runlocal else 20
  config.eval_every = 10 if runlocal else 100
  config.checkpoint_every = 10 if runlocal else 100
  return config
