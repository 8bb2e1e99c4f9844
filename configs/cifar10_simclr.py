"""SimCLR on CIFAR-10 with ResNet-18: 100 epochs. It was not run for this release.

  contrastax run cifar10_simclr            # the whole run
  contrastax run cifar10_simclr:runlocal   # a run of seconds

Prepare the data once with `contrastax prepare cifar10`. The run needs a GPU: on a CPU an epoch
takes hours, and cifar10_convnet_simclr is the config to use.

The views are those of the paper (arXiv 2002.05709, §B.9). Batch size 512, SGD with a learning
rate of 0.06·512/256 = 0.12 (linear scaling rule), weight decay 5e-4, τ = 0.5 and a projection of
512-128 follow a public reimplementation. It reports kNN 0.832 ± 0.002 after 100 epochs of such a
recipe.
"""

from ml_collections import ConfigDict


def get_config(arg: str = "") -> ConfigDict:
  if arg not in ("", "runlocal"):
    raise ValueError(f"no preset {arg!r}; there is: runlocal")
  runlocal = arg == "runlocal"
  config = ConfigDict()

  config.data = "made:32x32x3" if runlocal else "tfds:cifar10"
  config.batch_size = 16 if runlocal else 512
  config.steps = 4 if runlocal else 9766

  config.method = {
    "name": "SimCLR",
    "encoder": {"name": "resnet", "depth": 18, "stem": "cifar"},
    "projection": {"name": "projection", "widths": (512,), "out": 128},
    "views": {"name": "simclr", "size": 32, "strength": 0.5, "blur": 0.0},
    "temperature": {"name": "fixed", "temperature": 0.5},
  }
  config.optimizer = {
    "name": "sgd",
    "learning_rate": 0.12,
    "warmup": 1 if runlocal else 977,
    "weight_decay": 5e-4,
  }

  config.online_probe = True
  config.stop_on_collapse = True
  config.log_every = 2 if runlocal else 20
  config.eval_every = 4 if runlocal else 977
  config.checkpoint_every = 4 if runlocal else 977
  return config
