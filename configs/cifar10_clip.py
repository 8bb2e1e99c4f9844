"""CLIP on CIFAR-10 and the names of its classes as text. It was not run in full for this release.

  contrastax run cifar10_clip            # the whole run
  contrastax run cifar10_clip:runlocal   # a run of seconds

Prepare the data once with `contrastax prepare cifar10`. The preset `runlocal` uses generated images.

The run has 200,000 pairs. The method follows the paper (arXiv 2103.00020, figure 3): linear
projections, a temperature that is learned from 0.07, and AdamW. Views, encoder, learning rate and
warm-up are those of cifar10_convnet_simclr.

Ten words name 50,000 images, so every image of a class is a positive of its word, as in UniCL
(Yang et al. 2022, arXiv 2204.03610). With one caption per image, use the relation `same_example`.
The words are labels, so compare the probes with those of SupCon and not of SimCLR.
"""

from ml_collections import ConfigDict


def get_config(arg: str = "") -> ConfigDict:
  if arg not in ("", "runlocal"):
    raise ValueError(f"no preset {arg!r}; there is: runlocal")
  runlocal = arg == "runlocal"
  config = ConfigDict()

  config.data = "words:made:32x32x3" if runlocal else "words:tfds:cifar10"
  config.batch_size = 16 if runlocal else 256
  config.steps = 4 if runlocal else 782

  config.method = {
    "name": "CLIP",
    "encoder": {"name": "convnet", "widths": (32, 64, 128)},
    "projection": {"name": "projection", "widths": (), "out": 64},
    "other_encoder": {"name": "text", "width": 64, "depth": 2},
    "other_projection": {"name": "projection", "widths": (), "out": 64},
    "views": {"name": "simclr", "size": 32, "strength": 0.5, "blur": 0.0},
    "temperature": {"name": "learned", "temperature": 0.07},
    "relation": ({"name": "same_label"}, {"name": "other_view"}),
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
