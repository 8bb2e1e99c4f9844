"""Temperatures: what divides the similarities, and how it moves."""

from contrastax.temperatures.fixed import fixed as fixed
from contrastax.temperatures.individual import individual as individual
from contrastax.temperatures.learned import learned as learned
from contrastax.temperatures.scheduled import scheduled as scheduled
