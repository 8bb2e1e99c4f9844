"""Reporting: tables to read and figures of a run."""

from contrastax.reporting import table as table
from contrastax.reporting.figures import learning_curves as learning_curves
from contrastax.reporting.figures import space_map as space_map
