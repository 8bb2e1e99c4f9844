"""SimCLR on Fashion-MNIST: 60,000 grey images of 28×28, read through TFDS.

  python benchmarks/prepare_datasets.py fashion_mnist                    # once
  python -m experiments.run --config=configs/fashion_mnist_simclr.py

About five minutes on two cores. What it reaches: benchmarks/README.md. Nothing was tuned on the
test images; views and temperature were set as for digits, with a mirror and more scale.
"""

from ml_collections import ConfigDict


def get_config(arg: str = "") -> ConfigDict:
  if arg not in ("", "runlocal"):
    raise ValueError(f"no preset {arg!r}; there is: runlocal")
  runlocal = arg == "runlocal"
  config = ConfigDict()

  config.data = "tfds:fashion_mnist"
  config.validation = 0
  config.batch_size = 256
  config.steps = 20 if runlocal else 3000
  config.seed = 0

  config.method = {"name": "SimCLR"}
  config.encoder = {"name": "convnet", "widths": (32, 64, 128)}
  config.projection = {"name": "projection", "widths": (128,), "out": 64}
  config.views = {
    "name": "affine_jitter",
    "shift": 0.1,
    "scale": 0.3,
    "rotation": 10.0,
    "intensity": 0.4,
    "noise": 0.05,
    "mirror": 0.5,
  }
  config.loss = {"name": "info_nce"}
  config.temperature = {"name": "fixed", "temperature": 0.2}
  config.score = {"name": "cosine"}
  config.negatives = ({"name": "in_batch"},)
  config.relation = ({"name": "same_example"},)

  config.optimizer = {
    "name": "adamw",
    "learning_rate": 2e-3,
    "warmup": 2 if runlocal else 200,
    "weight_decay": 1e-4,
  }

  config.log_every = 5 if runlocal else 50
  config.eval_every = 10 if runlocal else 1000
  config.checkpoint_every = 10 if runlocal else 500
  return config
