"""Trains and evaluates one experiment: the same program as `contrastax run`."""

import sys

from contrastax.experiments.run import main

if __name__ == "__main__":
  sys.exit(main(sys.argv))
