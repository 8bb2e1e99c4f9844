"""Temperatures: what divides the similarities, and how it moves."""

from contrastax.temperatures.fixed import fixed as fixed
