"""Do the moving averages know the data better than a batch, and do the weights settle at ρ? On digits.

  python benchmarks/individual_digits.py run     # resumable; 15 runs of some 20 seconds on two cores
  python benchmarks/individual_digits.py draw

SimCLR on the 1,297 training digits, perceptron 256-128, batch 64, AdamW 3e-3, 800 steps (40 epochs),
`sogclr` with individual temperatures (begun at 0.3, ρ = 0.4, bounds 0.05 and 2, η = 0.1, β = 0.5), γ of
0.1, 0.3, 0.5, 0.9 and 1, seeds 0 to 2. At the end of each of EPOCHS, of one view of all examples in the
state as it is (the same draw for all runs):

  truth    g_i = the mean over all other examples of e^((s_ij − s_ii')/τ_i), s_ii' of two drawn views
  moving   the mean of |log u_i − log g_i|
  batch    the same of one batch's own average, of the batches of the next epoch
  kl       the mean divergence of the weights over all other examples from uniform ones, of the τ_i
           that are within the bounds

Hypotheses, on means over seeds of the last epoch:
  tracks   at the best γ below 1 the moving average's error is below the batch's, by three standard errors
  inner    the best of the five γ is neither 0.1 nor 1
  settles  at γ = 0.9 the mean divergence is within 20 % of ρ
Added after the first results, because one draw of views favors the batch, which is looked at with the
very views, and so the positive similarity, that the truth has, while the moving average has seen others:
`over views`, both errors against the mean of g_i over VIEWS draws, the batch's with views of its own. No
part of the hypotheses; all runs were made again to have it.

A run counts if its loss is finite. `settles` counts as a test only if at most a tenth of the τ_i is at a
bound, and the mean |τ_i − 0.3| is at least 0.03: else nothing has moved.
"""

from __future__ import annotations

import functools
import json
import pathlib
import sys

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from cifar10_study import mean_error, read

from contrastax import criteria, data, encoders, methods, temperatures, training, views
from contrastax.core import key_for
from contrastax.experiments.workdir import circumstances

RESULTS = pathlib.Path(__file__).parent / "results" / "individual_digits.jsonl"
SEEDS, GAMMAS, BATCH, STEPS, EPOCHS = (
  range(3),
  (0.1, 0.3, 0.5, 0.9, 1.0),
  64,
  800,
  (1, 2, 5, 10, 20, 40),
)
RHO, BEGIN, LOW, HIGH, VIEWS = 0.4, 0.3, 0.05, 2.0, 8


def method_of(gamma):
  return methods.SimCLR(
    encoder=encoders.mlp((256, 128)),
    projection=encoders.projection((128,), 64),
    views=views.affine_jitter(shift=0.1, scale=0.15, rotation=10.0),
    loss=criteria.sogclr(gamma),
    temperature=temperatures.individual(
      BEGIN, rho=RHO, min_temperature=LOW, max_temperature=HIGH, learning_rate=0.1, beta=0.5
    ),
    examples=len(data.load("digits").train["image"]),
  )


@functools.partial(jax.jit, static_argnums=0)
def averages(method, state, batch, key):
  """(log of each anchor's average over this batch, divergence of its weights), of two views' first."""
  own, kept = (x["terms"]["contrast"] for x in (state.params, state.state))
  seen = method.seen(state.params, state.state, batch, key)
  anchors, _, groups, compare = method.main.candidates(own, kept, seen, key)
  tau = method.temperature.value(own["temperature"], kept["temperature"], anchors.side)
  stats = criteria.evaluate(
    criteria.dcl(),
    anchors,
    groups,
    temperature=tau,
    stats=("positive", "log_mean", "divergence"),
    **compare._asdict(),
  ).stats
  n = len(batch["index"])
  return (stats["log_mean"] - stats["positive"])[:n], stats["divergence"][:n], tau[:n]


def look(method, state, source, everything):
  key = key_for(0, "look")
  truth, divergence, tau = averages(method, state, everything, key)
  row = everything["index"]
  moving = state.state["terms"]["contrast"]["loss"]["log_mean"].read(row)
  draws = [
    averages(method, state, everything, key_for(0, "look", v))[0] for v in range(1, 1 + VIEWS)
  ]
  over_views = jax.nn.logsumexp(jnp.stack(draws), axis=0) - np.log(VIEWS)
  errors, errors_over_views = [], []
  for t in range(len(row) // BATCH):
    batch = source.batch(int(state.step) + t)
    here, *_ = averages(method, state, batch, key)
    errors.append(np.abs(here - truth[batch["index"]]))
    other, *_ = averages(method, state, batch, key_for(0, "batch", t))
    errors_over_views.append(np.abs(other - over_views[batch["index"]]))
  inside = (tau > LOW) & (tau < HIGH)
  return {
    "step": int(state.step),
    "moving": float(jnp.abs(moving - truth).mean()),
    "batch": float(np.concatenate(errors).mean()),
    "moving_over_views": float(jnp.abs(moving - over_views).mean()),
    "batch_over_views": float(np.concatenate(errors_over_views).mean()),
    "kl": float(divergence[inside].mean()),
    "at_bound": float((~inside).mean()),
    "moved": float(jnp.abs(tau - BEGIN).mean()),
  }


def measure(gamma, seed):
  train, method = data.load("digits").train, method_of(gamma)
  source, optimizer = data.Resident(train, batch_size=BATCH, seed=seed), optax.adamw(3e-3)
  everything = {"image": jnp.asarray(train["image"]), "index": jnp.arange(source.size)}
  state = training.init(method, optimizer, source.batch(0), seed=seed)
  step, curve = training.make_train_step(method, optimizer), []
  of_epoch = source.size // BATCH
  for t in range(STEPS):
    state, metrics = step(state, source.batch(t))
    if (t + 1) % of_epoch == 0 and (t + 1) // of_epoch in EPOCHS:
      curve.append(look(method, state, source, everything))
  return {"finite": bool(np.isfinite(metrics["loss"])), "curve": curve}


def run():
  RESULTS.parent.mkdir(exist_ok=True)
  for gamma in GAMMAS:
    for seed in SEEDS:
      name = {"gamma": gamma, "seed": seed}
      if any(name.items() <= record.items() for record in read(RESULTS)):
        continue
      record = {**name, **measure(gamma, seed)}
      print(name, record["curve"][-1], flush=True)
      record["circumstances"] = circumstances("python benchmarks/individual_digits.py run")
      with RESULTS.open("a") as file:
        file.write(json.dumps(record) + "\n")


def draw():
  stand = [r for r in read(RESULTS) if r["finite"]]
  of = {gamma: [r["curve"] for r in stand if r["gamma"] == gamma] for gamma in GAMMAS}
  if any(len(found) < len(SEEDS) for found in of.values()):
    sys.exit("runs are missing; python benchmarks/individual_digits.py run")

  def last(gamma, key):
    return np.array([curve[-1][key] for curve in of[gamma]])

  lines = [
    "# Moving averages and individual temperatures on digits", "",
    f"{len(SEEDS)} seeds, mean ± standard error, at the end of epoch {EPOCHS[-1]}; "
    f"{stand[0]['circumstances']['machine']}.", "",
    "| γ | error of the moving average | of a batch | over views: moving | batch | KL of the weights | moved by | at a bound |",
    "|---|---|---|---|---|---|---|---|",
  ]  # fmt: skip
  for gamma in GAMMAS:
    keys = (
      "moving", "batch", "moving_over_views", "batch_over_views", "kl", "moved", "at_bound",
    )  # fmt: skip
    cells = [mean_error(last(gamma, key)) for key in keys]
    lines.append(f"| {gamma} | {' | '.join(cells)} |")
  best = min(GAMMAS[:-1], key=lambda gamma: last(gamma, "moving").mean())
  lead = last(best, "batch") - last(best, "moving")
  error = lead.std(ddof=1) / len(lead) ** 0.5
  first = min(GAMMAS, key=lambda gamma: last(gamma, "moving").mean())
  counts = last(0.9, "at_bound").max() <= 0.1 and last(0.9, "moved").min() >= 0.03
  kl = last(0.9, "kl").mean()
  verdicts = [
    f"1. tracks: at γ = {best} the batch's error exceeds the moving average's by {lead.mean():.3f} ± "
    f"{error:.3f}; the hypothesis {holds(lead.mean() > 3 * error)}.",
    f"2. inner: the smallest error is at γ = {first}; the hypothesis {holds(first not in (0.1, 1.0))}.",
    f"3. settles: the mean divergence is {kl:.3f}, ρ is {RHO}; "
    + (f"the hypothesis {holds(abs(kl / RHO - 1) <= 0.2)}." if counts else "not tested."),
  ]
  RESULTS.with_suffix(".md").write_text("\n".join([*lines, "", *verdicts, ""]))
  print("\n".join(lines[4:] + verdicts))
  figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
  for place, gamma in enumerate(GAMMAS):
    curves = {
      key: np.mean([[at[key] for at in curve] for curve in of[gamma]], 0)
      for key in ("moving_over_views", "kl")
    }
    left.plot(
      EPOCHS, curves["moving_over_views"], color=f"C{place}", marker=".", label=f"γ = {gamma}"
    )
    right.plot(EPOCHS, curves["kl"], color=f"C{place}", marker=".")
  batch = np.mean([[at["batch_over_views"] for at in curve] for curve in of[0.9]], 0)
  left.plot(EPOCHS, batch, color="black", linestyle="--", label="a batch's own (γ = 0.9)")
  right.axhline(RHO, color="black", linestyle="--")
  left.set_ylabel("error of log u, over views")
  right.set_ylabel("KL of the weights; dashed: ρ")
  for axes in (left, right):
    axes.set_xscale("log")
    axes.set_xlabel("epoch")
  left.legend(frameon=False, fontsize=8)
  figure.savefig(RESULTS.with_suffix(".png"), dpi=120)


def holds(it):
  return "holds" if it else "does not hold"


if __name__ == "__main__":
  {"run": run, "draw": draw}[sys.argv[1]]()
