"""SogCLR and iSogCLR, step by step: public implementations' gradients and states, beside ours, in float64.

`tests/golden_steps/LOSS__IMPLEMENTATION.npz` has the layout of `tests/golden` (see test_golden.py), but
that a leading axis is the step, and `case{k}_state_*` is a whole table after it. Batches overlap: new,
mixed, and fully visited ones.

What codes do at an example's first visit differs, and is said here by what our memory holds before a
step: that no row was visited; that all were, those that were not with u = 0; or what ours says.
"""

import dataclasses
import functools
import json
import pathlib
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastax import criteria
from contrastax.core import Group, join
from contrastax.pairwise import cosine, dot
from contrastax.relations import other_view, same_example
from contrastax.temperatures import fixed, individual

FOLDER = pathlib.Path(__file__).with_name("golden_steps")


def by_batch(p, step, visited):
  """The first visit is that of a batch of which no example was visited."""
  return visited.any()


def by_example(p, step, visited):
  return visited


def never(p, step, visited):
  return True


def from_the_second_epoch(p, step):
  """γ is 1 for two steps, an epoch, and what is not visited then begins at u = 0."""
  return jnp.where((step < 2) & (p.epoch != "always 1"), 1.0, p.gamma)


def from_the_second_epoch_on_a_cosine(p, step):
  constant = p.gamma_schedule == "constant"
  return from_the_second_epoch(p, step) if constant else on_a_cosine(p, step)


def given(p, step):
  return p.gamma


def on_a_cosine(p, step):
  """From 1, of LibAUC's `adjust_gamma` before each step."""
  if p.gamma_schedule == "constant":
    return p.gamma
  share = jnp.minimum(jnp.asarray(step, float) / p.gamma_decay_epochs, 1)
  return p.gamma + (1 - p.gamma) * (1 + jnp.cos(jnp.pi * share)) / 2


@dataclasses.dataclass(frozen=True)
class Code:
  """An implementation, in terms of ours.

  score: the cosine, or the product of vectors that it takes as they are. two: whether the two views
  are two modalities, each with its table. relative: of the loss. times: its loss is so many times the
  mean over anchors of τ L. first: what it holds for visited. gamma: γ at a step. clip: of individual
  temperatures, None: none; absent where it has none. tables: {its state's name: (which of ours, of which
  modality)}. value: whether its value is Σ w d, and compared.
  """

  score: object
  two: bool
  relative: bool
  times: object
  first: object
  gamma: object
  tables: dict
  clip: object = "fixed"
  value: bool = True

  def temperature(self, p):
    if self.clip == "fixed":
      return fixed(p.tau)
    eta = p.eta if hasattr(p, "eta") else p.eta_init
    beta = p.beta if hasattr(p, "beta") else p.beta_u
    return individual(
      p.tau_init, rho=p.rho, min_temperature=p.tau_min, max_temperature=p.tau_max, learning_rate=eta, beta=beta,
      clip=self.clip,
    )  # fmt: skip


TWICE = lambda p: 2.0  # noqa: E731  the sum of two views' or modalities' means
UNIMODAL = {"score": cosine(), "two": False, "relative": False, "times": TWICE}
BIMODAL = {"score": dot(), "two": True, "relative": True}
BI_TABLES = {"u1": ("u", 0), "u2": ("u", 1)}
CODES = {
  "sogclr_uni__official": Code(**UNIMODAL, first=by_batch, gamma=given, tables={"u": ("u", 0)}),
  "sogclr_uni__libauc_gcloss_v1": Code(
    **UNIMODAL, first=by_batch, gamma=on_a_cosine, tables={"u": ("u", 0)}
  ),
  "isogclr_uni__official": Code(
    **{**UNIMODAL, "score": dot()}, first=never, gamma=from_the_second_epoch, clip=3.0,
    tables={"s": ("u", 0), "tau": ("temperature", 0), "u": ("gradient", 0)},
  ),
  "isogclr_uni__libauc_gcloss_v1": Code(
    **UNIMODAL, first=by_batch, gamma=given, clip=None,
    tables={"u": ("u", 0), "learnable_tau": ("temperature", 0), "grad_tau": ("gradient", 0)},
  ),
  # Divides the average by B − 1, and not the loss.
  "sogclr_bi__libauc_gcloss_v2": Code(
    **BIMODAL, times=lambda p: p.B - 1.0, first=by_batch, gamma=given, tables=BI_TABLES
  ),
  "isogclr_bi__libauc_gcloss_v2": Code(
    **BIMODAL, times=lambda p: p.B - 1.0, first=by_batch, gamma=given, clip=None,
    tables=BI_TABLES | {
      "learnable_tau_img": ("temperature", 0), "learnable_tau_txt": ("temperature", 1),
      "grad_tau_img": ("gradient", 0), "grad_tau_txt": ("gradient", 1),
    },
  ),
  # Its value is g / u, and ours log u.
  "fastclip_v3__official": Code(
    **BIMODAL, times=TWICE, first=by_example, gamma=from_the_second_epoch_on_a_cosine, value=False,
    tables={"u_im": ("u", 0), "u_tt": ("u", 1)},
  ),
  "fastclip_v0v1__official": Code(
    **BIMODAL, times=lambda p: 2 / p.tau, first=by_example, gamma=from_the_second_epoch_on_a_cosine,
    value=False, tables={"u_im": ("u", 0), "u_tt": ("u", 1)},
  ),
}  # fmt: skip


def left_out(name, p, expected):
  """Why a case is not compared, or None."""
  if "gcloss_v2" in name and getattr(p, "tau", 1) * getattr(p, "tau_init", 1) == 0.01:
    return "its running maximum begins at 0, and e^(d/τ) underflows beside it"
  if "fastclip" in name:
    averages = np.concatenate([expected["state_u_im"].ravel(), expected["state_u_tt"].ravel()])
    if averages[averages > 0].min() < 1e-4:
      return "adds 1e-14 to u, which is as small here"
  return None


def cases():
  for name, code in CODES.items():
    arrays = np.load(FOLDER / f"{name}.npz")
    for case in json.loads(str(arrays["meta"]))["cases"]:
      yield pytest.param(name, code, case, id=f"{name}-{case['case']}")


def views(x1, x2, index):
  one = jnp.ones(len(index))
  return join(
    *(
      Group(
        z, {"index": index, "view": jnp.full(len(z), v), "as_positive": one, "as_negative": one}
      )
      for v, z in enumerate((x1, x2))
    )
  )


def one_step(code, loss, temperature, examples, tau, x1, x2, index, memory, state):
  """(Σ w d, the gradient of the mean of τ L, the next memory, the next state).

  temperature: None where τ is fixed, and then `tau`.
  """
  relation = same_example() & other_view() if code.two else same_example()

  def objective(x1, x2):
    both = views(x1, x2, index)
    row = both.side["index"] + examples * both.side["view"] * code.two
    anchors = both.attach(row=row)
    own = tau if temperature is None else temperature.value((), state, anchors.side)
    value, _, stats, after = criteria.evaluate(
      loss, anchors, (both,), relation=relation, temperature=own, score=code.score, same_set=True,
      memory=memory, stats=("count", "divergence"),
    )  # fmt: skip
    taus = jnp.broadcast_to(own, value.shape)
    weighed = (taus * (value + stats["divergence"])).mean()
    return (taus * value).mean(), (
      weighed,
      after,
      temperature.advance(state, anchors.side, taus, stats) if temperature else state,
    )

  (_, (weighed, *after)), gradient = jax.value_and_grad(objective, (0, 1), has_aux=True)(x1, x2)
  return weighed, gradient, *after


def close(ours, theirs):
  """Relative, or of an entry that is small beside the array's largest, to that."""
  atol = 1e-12 * max(1.0, float(np.abs(theirs).max()))
  np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=atol)


def held(memory, visited, of):
  """The memory, with these rows as visited; those that never were with u = 0."""
  log_mean, before = memory["log_mean"], memory["visited"]
  was_visited = np.asarray(before.values)
  logs = np.where(was_visited, log_mean.values, -np.inf)
  values = was_visited | (np.isin(np.arange(len(logs)), of) & visited)
  return {
    **memory,
    "log_mean": dataclasses.replace(log_mean, values=np.where(values, logs, 0)),
    "visited": dataclasses.replace(before, values=values),
  }


def parameters(params):
  p = types.SimpleNamespace(**params)
  p.rho = getattr(p, "rho", getattr(p, "rho_init", None))
  return p


def loss_of(code, p):
  return criteria.sogclr(functools.partial(code.gamma, p), relative=code.relative)


@functools.cache
def compiled(name, static):
  """One step as a program of the numbers of a case that are not `static`, of τ, and of its arrays."""
  code = CODES[name]

  def step(numbers, tau, *arguments):
    p = parameters(json.loads(static) | numbers)
    temperature = None if code.clip == "fixed" else code.temperature(p)
    return one_step(code, loss_of(code, p), temperature, p.N, tau, *arguments)

  return jax.jit(step)


def stepping(name, p):
  """The compiled step of a case. Cases that differ in γ, or in a fixed τ, share it."""
  params, fixed = vars(p), CODES[name].clip == "fixed"
  numbers = {
    k: np.float64(v) for k, v in params.items() if k == "gamma" or fixed and type(v) is float
  }
  static = {key: value for key, value in params.items() if key not in numbers}
  tau = CODES[name].temperature(p).value((), (), {}) if fixed else None
  return functools.partial(compiled(name, json.dumps(static, sort_keys=True)), numbers, tau)


@pytest.mark.parametrize("name, code, case", list(cases()))
def test_every_step_is_what_public_code_computes(name, code, case, float64):
  p = parameters(case["params"])
  arrays = np.load(FOLDER / f"{name}.npz")
  x1, x2, index = (arrays[case["inputs"][x]] for x in ("x1", "x2", "index"))
  expected = {
    key.removeprefix(f"case{case['case']}_"): arrays[key]
    for key in arrays.files
    if key.startswith(f"case{case['case']}_")
  }
  if reason := left_out(name, p, expected):
    pytest.skip(reason)
  memory, (_, state) = loss_of(code, p).init(2 * p.N), code.temperature(p).init(2 * p.N)
  go = stepping(name, p)
  for t in range(len(index)):
    for modality in range(1 + code.two):
      rows = index[t] + p.N * modality
      visited = code.first(p, t, np.asarray(memory["visited"].values)[rows])
      if not isinstance(visited, np.ndarray):
        memory = held(memory, visited, rows)
    weighed, gradients, memory, state = go(x1[t], x2[t], index[t], memory, state)
    if code.value:
      close(code.times(p) * weighed, expected["value"][t])
    for gradient, x in zip(gradients, ("x1", "x2"), strict=True):
      close(code.times(p) * np.asarray(gradient), expected[f"grad_{x}"][t])
    ours = {"u": np.where(memory["visited"].values, np.exp(memory["log_mean"].values), 0)}
    ours |= {key: np.asarray(table.values) for key, table in state.items()} if state else {}
    for key, (which, modality) in code.tables.items():
      theirs = expected[f"state_{key}"][t]
      if f"state_b{key[-1]}" in expected and which == "u":  # relative to a running maximum
        theirs = theirs * np.exp(expected[f"state_b{key[-1]}"][t])
      close(ours[which][p.N * modality : p.N * (modality + 1)], theirs)
