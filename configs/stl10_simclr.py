"""SimCLR on STL-10, images of 96×96, with ResNet-18. It was not run for this release.

  contrastax run stl10_simclr            # the whole run
  contrastax run stl10_simclr:runlocal   # a run of seconds

Build the data set once with `tfds build stl10 --file_format=array_record`, which needs
TensorFlow. The run needs a GPU.

It trains for 100 epochs on the 5,000 labeled training images and on the 100,000 images without
labels, which are decoded while the run trains. The embeddings are evaluated on labeled images. The
views are those of the paper (arXiv 2002.05709, appendix A) at 96 pixels. The batch size is 256 and
the learning rate 0.06, which the linear scaling rule gives from cifar10_simclr. The other settings
are those of cifar10_simclr.
"""

from ml_collections import ConfigDict


def get_config(arg: str = "") -> ConfigDict:
  if arg not in ("", "runlocal"):
    raise ValueError(f"no preset {arg!r}; there is: runlocal")
  runlocal = arg == "runlocal"
  config = ConfigDict()

  config.data = (
    "made:96x96x3" if runlocal else {"name": "tfds:stl10", "size": 96, "unlabeled": "unlabelled"}
  )
  config.stream = True
  config.batch_size = 16 if runlocal else 256
  config.steps = 4 if runlocal else 41000

  config.method = {
    "name": "SimCLR",
    "encoder": {"name": "resnet", "depth": 8 if runlocal else 18},
    "projection": {"name": "projection", "widths": (512,), "out": 128},
    "views": {"name": "simclr", "size": 96},
    "temperature": {"name": "fixed", "temperature": 0.5},
  }
  config.optimizer = {
    "name": "sgd",
    "learning_rate": 0.06,
    "warmup": 1 if runlocal else 4100,
    "weight_decay": 5e-4,
  }

  config.online_probe = True
  config.stop_on_collapse = True
  config.log_every = 2 if runlocal else 20
  config.eval_every = 4 if runlocal else 1000
  config.checkpoint_every = 4 if runlocal else 1000
  return config
