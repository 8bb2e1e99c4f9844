"""Encoders: pure networks, and what makes one of a Flax module."""

from contrastax.encoders.chunked import chunked as chunked
from contrastax.encoders.convnet import convnet as convnet
from contrastax.encoders.mlp import mlp as mlp
from contrastax.encoders.mlp import projection as projection
from contrastax.encoders.nnx import from_nnx as from_nnx
