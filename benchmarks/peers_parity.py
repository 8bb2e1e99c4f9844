"""Five methods as users of lightly compose them: what tests/test_peers_parity.py compares ours to.

  pip install torch torchvision --index-url https://download.pytorch.org/whl/cpu
  pip install lightly==1.6.0       (all in an environment of its own; jax is not needed)
  python -m benchmarks.peers_parity

SimCLR, MoCo v2, BYOL, Barlow Twins and VICReg, from the same weights and on the same views, five
steps of SGD with momentum in float64 on one thread; it takes seconds. Losses, the memory bank and
the moving average are lightly's (MIT license; Susmelj et al.), the loop is that of its examples.
Networks are linear, for no layer is to hide a difference in a method.

Writes tests/golden/methods_lightly.npz: `views` [step, view, n, d]; `initial.NETWORK.LEAF`, the
weights from which all methods start; after each of the steps `METHOD.NETWORK.LEAF` and, where there
is a moving average, `METHOD.target.NETWORK.LEAF`; `METHOD.loss` of each step; `moco.bank`, what the
memory bank holds before the first; `meta`, a JSON text with versions and a record per method.
"""

from __future__ import annotations

import copy
import importlib.metadata
import json
import pathlib

import numpy as np
import torch
from lightly.loss import BarlowTwinsLoss, NegativeCosineSimilarity, NTXentLoss, VICRegLoss
from lightly.models.utils import deactivate_requires_grad, update_momentum
from torch import nn

FILE = pathlib.Path(__file__).parent.parent / "tests" / "golden" / "methods_lightly.npz"
STEPS, EXAMPLES = 5, 8
WIDTHS = {"encoder": (6, 5), "projection": (5, 4), "predictor": (4, 4)}
BANK, SGD_MOMENTUM, TARGET_MOMENTUM = 16, 0.9, 0.9

# What each runs with, and lightly's conventions where they are not the only possible ones.
RECORDS = (
  {
    "method": "simclr",
    "params": {"rate": 0.1, "temperature": 0.5},
    "conventions": "mean over the 2n anchors; natural logarithm; each against 2n - 1 others",
  },
  {
    "method": "moco",
    "params": {"rate": 0.1, "temperature": 0.2, "momentum": TARGET_MOMENTUM},
    "conventions": "view 0 queries, view 1 gives keys, one way; keys join the bank after the loss; "
    "the bank begins with random unit vectors, and keeps keys normalized, which it does not "
    "normalize again; a key of the anchor's own example of an earlier epoch is a negative",
  },
  {
    "method": "byol",
    "params": {"rate": 0.2, "momentum": TARGET_MOMENTUM},
    "conventions": "the mean of two negative cosines, a quarter of the paper's loss less 4",
  },
  {
    "method": "barlow_twins",
    "params": {"rate": 0.2, "redundancy_weight": 5e-3},
    "conventions": "variances divided by n, plus 1e-5; lambda 0.005, the paper's is 0.0051",
  },
  {
    "method": "vicreg",
    "params": {
      "rate": 0.005, "invariance_weight": 25.0, "variance_weight": 25.0, "covariance_weight": 1.0,
    },
    "conventions": "half the sum of both variance terms, the sum of both covariance terms; "
    "divided by n - 1; 1e-4 added to variances under the root",
  },
)  # fmt: skip


class Model(nn.Module):
  """Networks in turn, and a moving average of the first two of them."""

  def __init__(self, weights, predicts, averages):
    super().__init__()
    for name in ("encoder", "projection", "predictor")[: 3 if predicts else 2]:
      layer = nn.Linear(*WIDTHS[name], dtype=torch.float64)
      layer.load_state_dict(
        {leaf: weights[f"initial.{name}.{leaf}"] for leaf in layer.state_dict()}
      )
      setattr(self, name, layer)
    self.predicts, self.averages = predicts, averages
    if averages:
      self.target = nn.ModuleDict(
        {name: copy.deepcopy(getattr(self, name)) for name in ("encoder", "projection")}
      )
      deactivate_requires_grad(self.target)

  def forward(self, x):
    z = self.projection(self.encoder(x))
    return self.predictor(z) if self.predicts else z

  def forward_momentum(self, x):
    return self.target["projection"](self.target["encoder"](x)).detach()

  def follow(self):
    if self.averages:
      for name in self.target:
        update_momentum(getattr(self, name), self.target[name], m=TARGET_MOMENTUM)


def objective(method, params, bank):
  """The loss of a model on two views."""
  if method == "simclr":
    criterion = NTXentLoss(temperature=params["temperature"])
  elif method == "moco":
    criterion = NTXentLoss(temperature=params["temperature"], memory_bank_size=tuple(bank.shape))
    criterion = criterion.double()
    criterion.memory_bank.bank.copy_(bank)
    return lambda model, x0, x1: criterion(model(x0), model.forward_momentum(x1))
  elif method == "byol":
    criterion = NegativeCosineSimilarity()

    def symmetric(model, x0, x1):
      p0, z0 = model(x0), model.forward_momentum(x0)
      p1, z1 = model(x1), model.forward_momentum(x1)
      return 0.5 * (criterion(p0, z1) + criterion(p1, z0))

    return symmetric
  elif method == "barlow_twins":
    criterion = BarlowTwinsLoss(lambda_param=params["redundancy_weight"])
  else:
    criterion = VICRegLoss(
      lambda_param=params["invariance_weight"],
      mu_param=params["variance_weight"],
      nu_param=params["covariance_weight"],
    )
  return lambda model, x0, x1: criterion(model(x0), model(x1))


def train(record, arrays):
  """The arrays of one method."""
  method, params = record["method"], record["params"]
  model = Model(arrays, predicts=method == "byol", averages=method in ("moco", "byol"))
  loss_of = objective(method, params, arrays["moco.bank"])
  optimizer = torch.optim.SGD(model.parameters(), lr=params["rate"], momentum=SGD_MOMENTUM)
  found, losses = [], []
  for x0, x1 in arrays["views"]:
    loss = loss_of(model, x0, x1)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    # The examples do this at the beginning of the next step, of the same weights; it changes
    # nothing at the beginning of the first.
    model.follow()
    losses.append(loss.detach())
    found.append({name: value.clone() for name, value in model.state_dict().items()})
  trained = {f"{method}.{name}": torch.stack([after[name] for after in found]) for name in found[0]}
  return {**trained, f"{method}.loss": torch.stack(losses)}


def inputs():
  """Views, initial weights, and a memory bank."""
  rng = np.random.default_rng(0)
  d = WIDTHS["encoder"][0]
  examples = rng.normal(size=(STEPS, 1, EXAMPLES, d))
  arrays = {"views": examples + 0.3 * rng.normal(size=(STEPS, 2, EXAMPLES, d))}
  for name, (width, out) in WIDTHS.items():
    arrays[f"initial.{name}.weight"] = 0.4 * rng.normal(size=(out, width))
    arrays[f"initial.{name}.bias"] = 0.1 * rng.normal(size=out)
  # Drawn as lightly draws its own, but of length 1 in float64: lightly normalizes in float32 and
  # never again, ours in every score, and parameters would differ by 8e-8 after five steps.
  bank = rng.normal(size=(BANK, WIDTHS["projection"][1]))
  arrays["moco.bank"] = bank / np.linalg.norm(bank, axis=1, keepdims=True)
  return {name: torch.from_numpy(value) for name, value in arrays.items()}


def main():
  torch.set_num_threads(1)
  given = inputs()
  arrays = dict(given)
  for record in RECORDS:
    found = train(record, given)
    losses = ", ".join(f"{loss:.4f}" for loss in found[f"{record['method']}.loss"].tolist())
    print(f"{record['method']:14}{losses}")
    arrays |= found
  about = "Five steps of five methods composed of lightly's parts, in float64 on CPU, by "
  meta = {
    "about": f"{about}benchmarks/{pathlib.Path(__file__).name}, whose docstring says what is here",
    "source": {name: importlib.metadata.version(name) for name in ("lightly", "torch")},
    "optimizer": {"name": "SGD", "momentum": SGD_MOMENTUM},
    "records": RECORDS,
  }
  arrays = {name: value.numpy() for name, value in arrays.items()}
  np.savez_compressed(FILE, meta=json.dumps(meta), **arrays)
  print(f"{FILE.name}: {FILE.stat().st_size:,} bytes")


if __name__ == "__main__":
  main()
