"""Reporting: tables as text, and figures of a run."""

from contrastax.reporting import table as table
from contrastax.reporting.figures import learning_curves as learning_curves
from contrastax.reporting.figures import space_map as space_map
from contrastax.reporting.negatives import hardness as hardness
from contrastax.reporting.negatives import nearest_negatives as nearest_negatives
from contrastax.reporting.temperatures import extreme_temperatures as extreme_temperatures
from contrastax.reporting.temperatures import temperatures as temperatures
