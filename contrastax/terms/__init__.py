"""Terms: the summands of an objective.

A method has its own loss and any number of further terms, `terms=(…)`. A term reads the outputs of the
method's networks by paths such as `projection.1` (`contrastax.paths.pick`).
"""

from contrastax.terms.apply import Apply as Apply
from contrastax.terms.contrast import Contrast as Contrast
from contrastax.terms.contrast import Given as Given
from contrastax.terms.measured import Measured as Measured
