"""iSogCLR on digits: the global contrastive loss, and a temperature of each example.

  python -m experiments.run --config=configs/digits_isogclr.py            # the whole run
  python -m experiments.run --config=configs/digits_isogclr.py:runlocal   # seconds, to see it work

1,297 training and 500 test images of 8×8. But for loss and temperature it is
configs/digits_simclr.py; neither is tuned.
"""

from ml_collections import ConfigDict


def get_config(arg: str = "") -> ConfigDict:
  if arg not in ("", "runlocal"):
    raise ValueError(f"no preset {arg!r}; there is: runlocal")
  runlocal = arg == "runlocal"
  config = ConfigDict()

  config.data = "digits"  # or npz:PATH, tfds:NAME
  config.validation = (
    0  # hold out so many training images, and judge on them instead of the test images
  )
  config.batch_size = 256
  config.steps = 20 if runlocal else 600
  config.seed = 0

  config.method = {"name": "SimCLR"}
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
  config.loss = {"name": "sogclr", "gamma": 0.9}
  config.temperature = {
    "name": "individual",
    "temperature": 0.5,
    "rho": 0.3,
    "smallest": 0.05,
    "largest": 1.0,
    "learning_rate": 0.03,
    "beta": 0.5,
  }
  config.score = {"name": "cosine"}
  config.negatives = ({"name": "in_batch"},)  # joined by +
  config.relation = ({"name": "same_example"},)  # joined by &

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
