"""VICReg on a folder of your own images.

  contrastax run images_vicreg --config.data=folder:photos            # the whole run
  contrastax run images_vicreg:runlocal --config.data=folder:photos   # a run of seconds

Images of any size in JPEG, PNG, WebP, GIF, BMP or TIFF files are decoded to 64×64 pixels
(--config.data.size). Subfolders are classes, which are used only to evaluate the embeddings; they
may be missing. Without --config.data, generated images are used.

The weights of the loss are those of the paper (arXiv 2105.04906). It needs no negatives, so it also
fits small batches. The projection has one hidden layer of 256 instead of two of 8,192.
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
    "name": "VICReg",
    "encoder": {"name": "resnet", "depth": 18, "width": 32},
    "projection": {"name": "projection", "widths": (256,), "out": 256},
    "views": {"name": "simclr"},
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
