"""`python -m contrastax` is the command `contrastax`."""

import sys

from contrastax.cli import main

sys.exit(main())
