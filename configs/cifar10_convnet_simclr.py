"""SimCLR on CIFAR-10 with a small convolutional encoder, for two CPU cores.

  contrastax run cifar10_convnet_simclr            # the whole run
  contrastax run cifar10_convnet_simclr:runlocal   # a run of seconds

Prepare the data once with `contrastax prepare cifar10`.

The run has 200,000 pairs and takes two to five minutes on two cores. It reaches kNN 0.485; the
untrained encoder reaches 0.358 and raw pixels 0.362 (three seeds, studies/results/cifar10.md).
The views are those of the paper for CIFAR-10 (arXiv 2002.05709, §B.9): half the color strength, and no
blur.
"""

from ml_collections import ConfigDict


def get_config(arg: str = "") -> ConfigDict:
  if arg not in ("", "runlocal"):
    raise ValueError(f"no preset {arg!r}; there is: runlocal")
  runlocal = arg == "runlocal"
  config = ConfigDict()

  config.data = "made:32x32x3" if runlocal else "tfds:cifar10"
  config.batch_size = 16 if runlocal else 256
  config.steps = 4 if runlocal else 782

  config.method = {
    "name": "SimCLR",
    "encoder": {"name": "convnet", "widths": (32, 64, 128)},
    "projection": {"name": "projection", "widths": (128,), "out": 64},
    "views": {"name": "simclr", "size": 32, "strength": 0.5, "blur": 0.0},
    "temperature": {"name": "fixed", "temperature": 0.5},
  }
  config.optimizer = {
    "name": "adamw",
    "learning_rate": 2e-3,
    "warmup": 1 if runlocal else 78,
    "weight_decay": 1e-4,
  }

  config.online_probe = True
  config.stop_on_collapse = True
  config.log_every = 2 if runlocal else 20
  config.eval_every = 4 if runlocal else 391
  config.checkpoint_every = 4 if runlocal else 200
  return config
