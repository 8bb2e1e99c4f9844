"""SimCLR on Fashion-MNIST: 60,000 gray images of 28×28, read through TFDS.

  contrastax run fashion_mnist_simclr            # the whole run
  contrastax run fashion_mnist_simclr:runlocal   # a run of seconds

Prepare the data once with `contrastax prepare fashion_mnist`.

The run takes about five minutes on two cores; studies/results/fashion_mnist.md has its result.
Widths, views, temperature and batch size were chosen on 5,000 held-out training images in short
runs (--config.validation=5000). The fourth layer, whose receptive field covers the whole garment,
had the largest effect.
"""

from ml_collections import ConfigDict


def get_config(arg: str = "") -> ConfigDict:
  if arg not in ("", "runlocal"):
    raise ValueError(f"no preset {arg!r}; there is: runlocal")
  runlocal = arg == "runlocal"
  config = ConfigDict()

  config.data = "made:28x28x1" if runlocal else "tfds:fashion_mnist"
  config.batch_size = 128
  config.steps = 20 if runlocal else 1400

  config.method = {
    "name": "SimCLR",
    "encoder": {"name": "convnet", "widths": (32, 64, 128, 256)},
    "projection": {"name": "projection", "widths": (128,), "out": 64},
    "views": {
      "name": "affine_jitter",
      "shift": 0.15,
      "scale": 0.6,
      "intensity": 0.8,
      "mirror": 0.5,
    },
    "temperature": {"name": "fixed", "temperature": 0.5},
  }
  config.optimizer = {
    "name": "adamw",
    "learning_rate": 3e-3,
    "warmup": 2 if runlocal else 140,
    "weight_decay": 1e-4,
  }

  config.log_every = 5 if runlocal else 50
  config.eval_every = 10 if runlocal else 700
  config.checkpoint_every = 10 if runlocal else 350
  return config
