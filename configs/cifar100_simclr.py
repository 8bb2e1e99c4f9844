"""SimCLR on CIFAR-100 with ResNet-18: 200 epochs. Not run here.

  tfds build cifar100 --file_format=array_record                         # once; needs TensorFlow
  python -m experiments.run --config=configs/cifar100_simclr.py          # wants a GPU

As `configs/cifar10_simclr.py`, for twice as long. solo-learn's own figure for CIFAR-100 (ResNet-18,
1,000 epochs, online linear probe on the test set): 0.658.
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
