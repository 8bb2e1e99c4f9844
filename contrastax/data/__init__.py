"""Data sets by name, orders of their examples, and sources that return batches."""

from contrastax.data.by_value import balanced as balanced
from contrastax.data.by_value import grouped as grouped
from contrastax.data.columns import Column as Column
from contrastax.data.dataset import Dataset as Dataset
from contrastax.data.dataset import hold_out as hold_out
from contrastax.data.datasets import KINDS as KINDS
from contrastax.data.datasets import complete as complete
from contrastax.data.datasets import load as load
from contrastax.data.datasets import read as read
from contrastax.data.fields import Related as Related
from contrastax.data.orders import Order as Order
from contrastax.data.orders import in_order as in_order
from contrastax.data.orders import shuffled as shuffled
from contrastax.data.orders import windows as windows
from contrastax.data.resident import Resident as Resident
from contrastax.data.stream import Stream as Stream
