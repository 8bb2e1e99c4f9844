"""Encoders: networks as pure functions, adapters for Flax modules, and pretrained weights."""

from contrastax.encoders.chunked import chunked as chunked
from contrastax.encoders.convnet import convnet as convnet
from contrastax.encoders.frozen import frozen as frozen
from contrastax.encoders.frozen import per_token as per_token
from contrastax.encoders.linen import from_linen as from_linen
from contrastax.encoders.mlp import mlp as mlp
from contrastax.encoders.mlp import projection as projection
from contrastax.encoders.nnx import from_nnx as from_nnx
from contrastax.encoders.pretrained import pretrained as pretrained
from contrastax.encoders.prototypes import prototypes as prototypes
from contrastax.encoders.resnet import resnet as resnet
from contrastax.encoders.text import text as text
from contrastax.encoders.torch_layout import to_torch as to_torch
from contrastax.encoders.vit import vit as vit
