"""The smallest run: 40 images without labels, four steps, checkpoints 0, 2 and 4."""

import numpy as np

METHOD = {
  "name": "SimCLR",
  "encoder": {"name": "mlp", "widths": (8,)},
  "projection": {"name": "projection", "widths": (8,), "out": 8},
  "views": {"name": "affine_jitter", "scale": 0.1, "rotation": 5.0, "intensity": 0.1},
}
CONFIG = {
  "data": "npz:images.npz",
  "batch_size": 16,
  "steps": 4,
  "method": METHOD,
  "optimizer": {"name": "adamw", "learning_rate": 1e-3, "warmup": 1},
  "log_every": 1,
  "eval_every": 2,
  "checkpoint_every": 2,
}


def images(seed=0):
  return np.random.default_rng(seed).integers(0, 256, (40, 6, 6, 1), np.uint8)


def written(folder, **changes):
  """Writes images.npz and config.py; returns the arguments of its run in `folder/run`.

  A key that is changed to None is left out of the config.
  """
  np.savez(folder / "images.npz", image=images())
  config = {key: value for key, value in {**CONFIG, **changes}.items() if value is not None}
  if config.get("data") == CONFIG["data"]:
    config["data"] = f"npz:{folder}/images.npz"
  (folder / "config.py").write_text(
    f"from ml_collections import ConfigDict\n\ndef get_config():\n  return ConfigDict({config!r})\n"
  )
  return ["run", f"--config={folder}/config.py", f"--workdir={folder}/run"]
