"""Data sets by name, and sources that turn them into batches."""

from contrastax.data.datasets import Dataset as Dataset
from contrastax.data.datasets import hold_out as hold_out
from contrastax.data.datasets import load as load
from contrastax.data.resident import Resident as Resident
