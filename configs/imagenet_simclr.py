"""SimCLR on ImageNet-1k with ResNet-50: 100 epochs. It was not run for this release.

  contrastax run imagenet_simclr --config.data.name=folder:PATH   # the whole run, on a GPU
  contrastax run imagenet_simclr:runlocal                         # a run of seconds, generated images

PATH has the subfolders `train` and `val` with one subfolder per class. Batches are decoded while the
run trains. On a machine with few cores, decode the images once and give the result:

  contrastax prepare folder:PATH --size=256 --out=imagenet_256
  contrastax run imagenet_simclr --config.data=arrayrecord:imagenet_256

An image is the largest centered square, resized to 256 pixels; the paper crops views from the whole
image.

The recipe is that of the paper (Chen et al. 2020, arXiv 2002.05709, appendix A and §B.6): full
views, LARS with a learning rate of 0.3·256/256, weight decay 1e-6, a warm-up of ten epochs, τ =
0.1 and a projection of 2048-128. The paper's accuracy of 0.693 (linear probe) is for a batch size
of 4,096 and 1,000 epochs.
"""

from ml_collections import ConfigDict


def get_config(arg: str = "") -> ConfigDict:
  if arg not in ("", "runlocal"):
    raise ValueError(f"no preset {arg!r}; there is: runlocal")
  runlocal = arg == "runlocal"
  config = ConfigDict()

  config.data = "made:64x64x3" if runlocal else {"name": "folder:imagenet", "size": 256}
  config.stream = True
  config.batch_size = 16 if runlocal else 256
  config.steps = 4 if runlocal else 500450

  config.method = {
    "name": "SimCLR",
    "encoder": {"name": "resnet", "depth": 8 if runlocal else 50, "dtype": "bfloat16"},
    "projection": {"name": "projection", "widths": (2048,), "out": 128},
    "views": {"name": "simclr", "size": 64 if runlocal else 224},
    "temperature": {"name": "fixed", "temperature": 0.1},
  }
  config.optimizer = {
    "name": "lars",
    "learning_rate": 0.3,
    "warmup": 1 if runlocal else 50045,
    "weight_decay": 1e-6,
  }

  config.online_probe = True
  config.stop_on_collapse = True
  config.log_every = 2 if runlocal else 100
  config.eval_every = 4 if runlocal else 5000
  config.checkpoint_every = 4 if runlocal else 5000
  return config
