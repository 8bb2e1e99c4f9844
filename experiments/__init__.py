"""The programs of a checkout: `python -m experiments.run` and `python -m experiments.evaluate`."""
