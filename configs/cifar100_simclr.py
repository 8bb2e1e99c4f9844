"""SimCLR on CIFAR-100 with ResNet-18: 200 epochs. It was not run for this release.

  contrastax run cifar100_simclr            # the whole run
  contrastax run cifar100_simclr:runlocal   # a run of seconds

Build the data set once with `tfds build cifar100 --file_format=array_record`, which needs
TensorFlow. The run needs a GPU.

The config is that of cifar10_simclr with twice as many epochs. solo-learn reports an accuracy of
0.658 on CIFAR-100 (ResNet-18, 1,000 epochs, online linear probe on the test set).
"""

from ml_collections import ConfigDict


def get_config(arg: str = "") -> ConfigDict:
  if arg not in ("", "runlocal"):
    raise ValueError(f"no preset {arg!r}; there is: runlocal")
  runlocal = arg == "runlocal"
  config = ConfigDict()

  config.data = "made:32x32x3" if runlocal else "tfds:cifar100"
  config.batch_size = 16 if runlocal else 512
  config.steps = 4 if runlocal else 19532

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
  config.eval_every = 4 if runlocal else 1954
  config.checkpoint_every = 4 if runlocal else 977
  return config
