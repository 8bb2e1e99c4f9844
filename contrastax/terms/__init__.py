"""Terms: the summands of an objective.

A method has one term of its own and any number of further ones, `terms=(…)`. A term reads what the
method's networks returned by paths such as `projection.1` (`contrastax.paths.pick`).
"""

from contrastax.terms.apply import Apply as Apply
from contrastax.terms.contrast import Contrast as Contrast
from contrastax.terms.contrast import Given as Given
from contrastax.terms.measured import Measured as Measured
