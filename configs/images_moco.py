"""MoCo v2 on a folder of your own images.

  contrastax run images_moco --config.data=folder:photos            # the whole run
  contrastax run images_moco:runlocal --config.data=folder:photos   # a run of seconds

Images of any size in JPEG, PNG, WebP, GIF, BMP or TIFF files are decoded to 64×64 pixels
(--config.data.size). Subfolders are classes, which are used only to evaluate the embeddings; they
may be missing. Without --config.data, generated images are used.

The method follows MoCo v2 (arXiv 2003.04297): τ = 0.2 and a hidden layer in the projection. The
queue has 1,024 keys instead of 65,536, and the momentum is 0.99 instead of 0.999, for short runs.
The views are those of the paper on SimCLR (arXiv 2002.05709, appendix A). The batch size and the
number of steps are for some thousand images on a CPU. On a GPU raise them, as images_simclr
describes.
"""

from ml_collections import ConfigDict


def get_config(arg: str = "") -> ConfigDict:
  if arg not in ("", "runlocal"):
    raise ValueError(f"no preset {arg!r}; there is: runlocal")
  runlocal = arg == "runlocal"
  config = ConfigDict()

  config.data = "made:64x64x3"
  config.batch_size = 64
  config.steps = 20 if runlocal else 500

  config.method = {
    "name": "MoCo",
    "encoder": {"name": "resnet", "depth": 18, "width": 32},
    "projection": {"name": "projection", "widths": (128,), "out": 64},
    "views": {"name": "simclr"},
    "temperature": {"name": "fixed", "temperature": 0.2},
    "negatives": ({"name": "queue", "size": 1024},),
    "momentum": 0.99,
  }
  config.optimizer = {
    "name": "adamw",
    "learning_rate": 1e-3,
    "warmup": 2 if runlocal else 50,
    "weight_decay": 1e-4,
  }

  if runlocal:
    config.log_every, config.eval_every, config.checkpoint_every = 5, 10, 10
  return config
