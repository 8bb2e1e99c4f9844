"""MoCHi on scikit-learn's handwritten digits: MoCo v2 with mixed hard negatives, 600 steps.

  contrastax run digits_mochi            # the whole run
  contrastax run digits_mochi:runlocal   # a run of seconds

Accuracy on 200 held-out training images (--config.validation=200):

                     kNN    linear probe, by labels per class: 1, 5, all
  raw pixels         0.975  0.609  0.855  0.970
  untrained encoder  0.925  0.531  0.806  0.960
  trained encoder    0.970  0.787  0.924  0.985

digits_moco reaches 0.980, 0.789, 0.924 and 0.975, so the mixed negatives make no difference on
digits.

Only the negatives differ from digits_moco. For each anchor, MoCHi takes the 128 hardest negatives
in the queue. It makes 128 mixtures of two of them, and 32 mixtures of one of them with the anchor.
Mixing starts after 60 steps. The paper (arXiv 2010.01028) takes the 1,024 hardest of 65,536 keys,
makes 512 and 256 mixtures, and starts after 15 of 200 epochs. No hyperparameter was tuned.
"""

from ml_collections import ConfigDict


def get_config(arg: str = "") -> ConfigDict:
  if arg not in ("", "runlocal"):
    raise ValueError(f"no preset {arg!r}; there is: runlocal")
  runlocal = arg == "runlocal"
  config = ConfigDict()

  config.data = "digits"
  config.batch_size = 256
  config.steps = 20 if runlocal else 600

  config.method = {
    "name": "MoCo",
    "encoder": {"name": "convnet", "widths": (32, 64, 128)},
    "projection": {"name": "projection", "widths": (128,), "out": 64},
    "views": {"name": "affine_jitter"},
    "temperature": {"name": "fixed", "temperature": 0.2},
    "negatives": (
      {"name": "queue", "size": 1024},
      {
        "name": "mochi",
        "hard": 128,
        "mixed": 128,
        "with_anchor": 32,
        "warmup": 2 if runlocal else 60,
      },
    ),
    "momentum": 0.99,
  }
  config.optimizer = {
    "name": "adamw",
    "learning_rate": 4e-3,
    "warmup": 2 if runlocal else 50,
    "weight_decay": 1e-4,
  }

  if runlocal:
    config.log_every, config.eval_every, config.checkpoint_every = 5, 10, 10
  return config
