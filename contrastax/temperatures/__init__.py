"""Temperatures: constant, scheduled, learned, or learned for each example.

The similarities of an anchor are divided by its temperature. A method or a `Contrast` term takes
one of these parts as `temperature`.
"""

from contrastax.temperatures.fixed import fixed as fixed
from contrastax.temperatures.individual import individual as individual
from contrastax.temperatures.learned import learned as learned
from contrastax.temperatures.scheduled import scheduled as scheduled
