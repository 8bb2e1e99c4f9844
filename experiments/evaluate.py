"""Evaluates finished runs: the same program as `contrastax evaluate`."""

import sys

from contrastax.experiments.evaluate import main

if __name__ == "__main__":
  sys.exit(main(sys.argv))
