"""Draws docs/figures/choosing_*.png: `python docs/figures/choosing.py [NAME ...]`.

Every line, number and arrow is a gradient that `jax.grad` takes of the library's own loss, on a
small fixed arrangement of vectors. The pull on a pair is −∂L/∂s, s its cosine; a push is negative.
"""

import pathlib
import sys

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

from contrastax import losses  # noqa: E402
from contrastax.pairwise import unit  # noqa: E402

FOLDER = pathlib.Path(__file__).parent
BLUE, ORANGE, GRAY, BLACK = "#2166ac", "#d95f0e", "#9a9a9a", "#111111"
PULL, PUSH = BLUE, ORANGE
COLORS = {"anchor": BLACK, "positive": BLUE, "negative": ORANGE, "ignored": GRAY}
LIFT = 1e-3


def on_circle(degrees):
  radians = jnp.deg2rad(jnp.asarray(degrees, float))
  return jnp.stack([jnp.cos(radians), jnp.sin(radians)], -1)


def lifted(degrees):
  """Points of the circle, each with a little of a dimension of its own: independent vectors."""
  z = on_circle(degrees)
  return jnp.concatenate([z, LIFT * jnp.eye(len(z))], 1)


def pulls(loss, degrees):
  """−∂L/∂s of all pairs, [m, m]: entry (i, j) is what moves j towards i.

  The gradient at j is a sum over i of ∂L/∂s_ij times vector i: its coefficients are solved for.
  """
  z = lifted(degrees)
  gradient = jax.grad(loss)(z)
  return -np.linalg.lstsq(np.asarray(z).T, np.asarray(gradient).T, rcond=None)[0]


def circle(ax, title, below=""):
  ax.add_patch(plt.Circle((0, 0), 1, fill=False, color="#d8d8d8", lw=1, zorder=0))
  ax.set(xlim=(-1.65, 1.65), ylim=(-1.5, 1.45), aspect="equal")
  ax.axis("off")
  ax.set_title(title, fontsize=10, family="monospace", pad=2)
  ax.text(0, -1.5, below, ha="center", va="top", fontsize=9, color="#333333")


def point(ax, degree, color, marker="o", size=70):
  x, y = np.cos(np.deg2rad(degree)), np.sin(np.deg2rad(degree))
  edge = {"edgecolors": "white", "linewidths": 1}
  ax.scatter(x, y, s=size, color=color, marker=marker, zorder=3, **edge)


def outside(ax, degree, text, color, **more):
  """Beside a point, on the outer side."""
  x, y = np.cos(np.deg2rad(degree)), np.sin(np.deg2rad(degree))
  how = "left" if x > 0.3 else "right" if x < -0.3 else "center"
  reach = 1.19 if how != "center" else 1.27
  style = {"fontsize": 8.5, "va": "center", **more}
  ax.text(reach * x, reach * y, text, ha=how, color=color, **style)


def line(ax, one, other, weight, most):
  """Between two points of the circle, as wide as its weight says."""
  if abs(weight) < 0.004 * most:
    return
  ends = np.asarray(on_circle([one, other]))
  color = PULL if weight > 0 else PUSH
  ax.plot(*ends.T, color=color, lw=0.4 + 6 * abs(weight) / most, alpha=0.75, zorder=1,
          solid_capstyle="butt")  # fmt: skip


def signed(number):
  return "0" if abs(number) < 0.005 else f"{number:+.2f}".replace("-", "−")


def of_sign(number):
  return GRAY if abs(number) < 0.005 else PULL if number > 0 else PUSH


def around_anchor(ax, title, degrees, roles, pull, below="", colors=None):
  """An anchor's pairs; numbers are the pulls in units of the whole push."""
  circle(ax, title, below)
  push = -sum(p for p, role in zip(pull, roles, strict=True) if role == "negative" and p < 0)
  share = np.asarray(pull) / (push or 1)
  anchor = roles.index("anchor")
  for j, role in enumerate(roles):
    color = (colors or {}).get(j, COLORS[role])
    if j != anchor:
      line(ax, degrees[anchor], degrees[j], share[j], 1)
      outside(ax, degrees[j], signed(share[j]), of_sign(share[j]))
    point(ax, degrees[j], color, "*" if j == anchor else "o", 200 if j == anchor else 70)


def panels(rows, columns, width=2.35, height=2.6):
  figure, axes = plt.subplots(rows, columns, figsize=(width * columns, height * rows))
  return figure, np.atleast_1d(axes).ravel()


def legend(figure, words, y=0.0):
  """One line of colored words under the panels."""
  kinds = {
    "★ anchor": BLACK, "● positive": BLUE, "● negative": ORANGE, "● not in the loss": GRAY,
    "— pulled": PULL, "— pushed": PUSH,
  }  # fmt: skip
  x = np.linspace(0, 1, len(words) + 2)[1:-1]
  for at, word in zip(x, words, strict=True):
    figure.text(at, y, word, ha="center", va="bottom", fontsize=9, color=kinds[word])


def save(figure, name, bottom=0.07):
  figure.tight_layout(rect=(0, bottom, 1, 1))
  path = FOLDER / f"choosing_{name}.png"
  figure.savefig(path, dpi=100)
  plt.close(figure)
  print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")


# Two views of three examples: the anchor and its positive, two vectors of each other example.
VIEWS = [90, 48, 200, 140, 20, 270]
VIEW_ROLES = ["anchor", "negative", "negative", "positive", "negative", "negative"]
ALL = ["★ anchor", "● positive", "● negative", "— pulled", "— pushed"]


def of_views(loss, anchor=0, degrees=VIEWS, **arguments):
  """The anchor's row of pulls, of a loss of two views [2n] at its first value."""
  n = len(degrees) // 2
  return pulls(lambda z: loss(z[:n], z[n:], **arguments)[anchor], degrees)[anchor]


def strength(pull, roles, tau):
  push = -sum(p for p, role in zip(pull, roles, strict=True) if role == "negative")
  return f"all push: {push * tau:.2f} / τ"


def draw_pairs():
  figure, axes = panels(1, 4)
  cases = [("nt_xent, τ = 0.5", losses.nt_xent, 0.5), ("nt_xent, τ = 0.1", losses.nt_xent, 0.1),
           ("dcl, τ = 0.5", losses.dcl, 0.5), ("dcl, τ = 0.1", losses.dcl, 0.1)]  # fmt: skip
  for ax, (title, loss, tau) in zip(axes, cases, strict=True):
    pull = of_views(loss, temperature=tau)
    around_anchor(ax, title, VIEWS, VIEW_ROLES, pull, strength(pull, VIEW_ROLES, tau))
  legend(figure, ALL)
  save(figure, "pairs")


def draw_views():
  """Three views of two examples; what the terms of the first example do to its pairs."""
  degrees = [95, 135, 190, 50, 5, 280]  # views 0, 1, 2 of example 0, then of example 1
  order = [0, 3, 1, 4, 2, 5]  # to [view, example]

  def views(z):
    return z[jnp.array(order)].reshape(3, 2, -1)

  def first(values):
    return values.reshape(3, 2)[:, 0].mean() if values.size == 6 else values[0]

  index, tau = jnp.tile(jnp.arange(2), 3), 0.3
  cases = [
    ("sup_con", lambda v: losses.sup_con(v.reshape(6, -1), index, temperature=tau)),
    ("poly_view geometric", lambda v: losses.poly_view(v, temperature=tau)),
    ("poly_view arithmetic",
     lambda v: losses.poly_view(v, temperature=tau, aggregate="arithmetic")),
    ("mv_info_nce", lambda v: losses.mv_info_nce(v, temperature=tau)),
    ("mv_dhel", lambda v: losses.mv_dhel(v, temperature=tau)),
    ("cacr", lambda v: losses.cacr(v, t_plus=1.0, t_minus=2.0)),
  ]  # fmt: skip
  figure, axes = panels(2, 3, width=2.9)
  for ax, (title, loss) in zip(axes, cases, strict=True):
    weight = pulls(lambda z, loss=loss: first(loss(views(z))), degrees)
    circle(ax, title)
    most = sum(weight[i, j] for i in range(3) for j in range(i) if weight[i, j] > 0)
    for i in range(6):
      for j in range(i):
        line(ax, degrees[i], degrees[j], weight[i, j] / most, 1)
    for i, j in [(0, 1), (1, 2), (0, 2)]:
      middle = np.asarray(on_circle([degrees[i], degrees[j]])).mean(0)
      middle = middle * (0.55 if (i, j) == (0, 2) else 1.24 / np.linalg.norm(middle))
      text = signed(weight[i, j] / most)
      ax.text(*middle, text, ha="center", va="center", fontsize=8.5, zorder=4,
              color=PULL if weight[i, j] > 0 else PUSH,
              bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8, "alpha": 0.85})  # fmt: skip
    for i, degree in enumerate(degrees):
      point(ax, degree, BLUE if i < 3 else ORANGE)
  for at, (words, color) in zip((0.14, 0.42, 0.68, 0.88), (
    ("● views of the example", BLUE), ("● of another example", ORANGE),
    ("— pulled", PULL), ("— pushed", PUSH)), strict=True):  # fmt: skip
    figure.text(at, 0.0, words, ha="center", va="bottom", fontsize=9, color=color)
  save(figure, "views", 0.04)


def draw_labels():
  degrees = [90, 118, 180, 40, 345, 240]
  roles = ["anchor", "positive", "positive", "negative", "negative", "negative"]
  labels, tau = jnp.array([0, 0, 0, 1, 1, 2]), 0.3
  cases = [
    ("sup_con", lambda z: losses.sup_con(z, labels, temperature=tau)),
    ("sup_con_in", lambda z: losses.sup_con_in(z, labels, temperature=tau)),
    ("circle, scale = 16", lambda z: losses.circle(z, labels, scale=16.0)),
    ("triplet batch hard", lambda z: losses.triplet(unit(z), labels, margin=0.3)),
    ("triplet semi-hard",
     lambda z: losses.triplet(unit(z), labels, margin=0.3, mining="semi-hard")),
    ("multi_similarity", lambda z: losses.multi_similarity(z, labels)),
  ]  # fmt: skip
  figure, axes = panels(2, 3, width=2.9)
  for ax, (title, loss) in zip(axes, cases, strict=True):
    pull = pulls(lambda z, loss=loss: loss(z)[0], degrees)[0]
    around_anchor(ax, title, degrees, roles, pull)
  legend(figure, ALL)
  save(figure, "labels", 0.04)


def draw_proxies():
  """A vector between its own proxy, at 0°, and another, at 90°."""
  scale, tau = 16.0, 1 / 8
  proxies, angles = on_circle([0, 90]), np.linspace(1, 89, 177)
  own = jnp.array([0])
  cases = [
    ("cosface, margin = 0", lambda z: losses.cosface(z, own, proxies, margin=0.0, scale=scale), "--"),
    ("cosface, margin = 0.35", lambda z: losses.cosface(z, own, proxies, scale=scale), "-"),
    ("arcface, margin = 0.5", lambda z: losses.arcface(z, own, proxies, scale=scale), "-"),
    ("proxy_nca, τ = 1/8", lambda z: losses.proxy_nca(z, own, proxies, temperature=tau), ":"),
  ]  # fmt: skip
  colors = [GRAY, "#67a9cf", BLUE, BLACK]
  figure, (left, right) = plt.subplots(
    1, 2, figsize=(8.4, 3.1), gridspec_kw={"width_ratios": [1, 2.1]}
  )
  circle(left, "the arrangement")
  left.set(xlim=(-0.35, 1.5), ylim=(-0.3, 1.45))
  for degree, color, text in ((0, BLUE, "own\nproxy"), (90, ORANGE, "another proxy")):
    point(left, degree, color, "D", 80)
    x, y = np.cos(np.deg2rad(degree)), np.sin(np.deg2rad(degree))
    left.text(x * 1.08 + 0.04, y * 1.2 - 0.02, text, fontsize=9, color=color, va="center")
  point(left, 35, BLACK, "*", 200)
  left.plot([0, 1], [0, 0], color="#d8d8d8", lw=1)
  left.plot([0, 0.82], [0, 0.574], color="#d8d8d8", lw=1)
  left.text(0.3, 0.08, "θ", fontsize=11)
  left.text(0.88, 0.66, "vector", fontsize=9)
  for (name, loss, style), color in zip(cases, colors, strict=True):
    slope = jax.vmap(jax.grad(lambda t, loss=loss: loss(on_circle(jnp.rad2deg(t))[None])[0]))(
      jnp.deg2rad(jnp.asarray(angles))
    )
    right.plot(angles, slope / scale, style, color=color, lw=2, label=name)
  right.set(xlabel="θ, degrees", xlim=(0, 90), xticks=range(0, 91, 15), ylim=(0, 2.0))
  right.set_ylabel("∂L/∂θ, divided by 16")
  right.legend(fontsize=8.5, frameon=False, loc="lower right")
  right.spines[["top", "right"]].set_visible(False)
  save(figure, "proxies", 0.0)


def draw_graded():
  """One anchor, its own candidate and four others, more or less similar in the guide."""
  anchors = [90, 300, 310, 320, 330]
  candidates = [125, 55, 200, 0, 255]
  guide = on_circle([0, 25, 60, 110, 180])
  target = (1 + guide @ guide[0]) / 2
  mix = np.asarray(target)[:, None]
  shade = mix * matplotlib.colors.to_rgb(BLUE) + (1 - mix) * matplotlib.colors.to_rgb(ORANGE)
  shades = {j + 1: tuple(shade[j]) for j in range(5)}
  tau = 0.3
  cases = [
    ("info_nce", lambda a, b: losses.info_nce(a, b, temperature=tau)),
    ("soft_contrastive", lambda a, b: losses.soft_contrastive(a, b, guide, temperature=tau)),
    ("guide_temperature=0.3",
     lambda a, b: losses.soft_contrastive(a, b, guide, temperature=tau, guide_temperature=0.3)),
  ]  # fmt: skip
  figure, axes = panels(1, 3, width=3.0, height=3.0)
  for ax, (title, loss) in zip(axes, cases, strict=True):
    row = pulls(lambda z, loss=loss: loss(z[:5], z[5:])[0], anchors + candidates)[0]
    pull = np.concatenate([[0], row[5:]])
    degrees = [90, *candidates]
    circle(ax, title)
    push = -pull[pull < 0].sum()
    for j in range(1, 6):
      line(ax, 90, degrees[j], pull[j] / push, 1)
      outside(ax, degrees[j], signed(pull[j] / push), of_sign(pull[j] / push), va="bottom")
      outside(ax, degrees[j], f"w = {target[j - 1]:.2f}", "#555555", fontsize=7.5, va="top")
      point(ax, degrees[j], shades[j], size=95)
    point(ax, 90, BLACK, "*", 200)
  figure.text(0.5, 0.0, "w and the color, from orange to blue: the similarity of the two in the guide",
              ha="center", va="bottom", fontsize=9)  # fmt: skip
  save(figure, "graded")


def similarity_slopes(loss, similarity):
  """∂L/∂S of a loss of two sets whose cosines are S: of basis vectors and of vectors with one
  coordinate more, which makes their length 1."""
  n = len(similarity)
  rest = np.sqrt(1 - (similarity**2).sum(0))
  a = jnp.eye(n, n + 1)
  b = jnp.asarray(np.vstack([similarity, rest]).T)
  gradient = np.asarray(jax.grad(lambda b: loss(a, b).mean())(b))
  along = -gradient[:, -1] / rest
  return gradient[:, :n].T + similarity * along


def heat(ax, matrix, title, below, limit):
  colors = matplotlib.colors.LinearSegmentedColormap.from_list("", [ORANGE, "white", BLUE])
  ax.imshow(matrix, cmap=colors, vmin=-limit, vmax=limit)
  ax.set(xticks=[], yticks=[])
  ax.set_title(title, fontsize=10, family="monospace", pad=4)
  ax.set_xlabel(below, fontsize=9)


def draw_modalities():
  similarity = np.full((5, 5), 0.05)
  np.fill_diagonal(similarity, [0.7, 0.6, 0.25, 0.5, 0.45])
  similarity[0, 2], similarity[3, 4] = 0.45, 0.35
  tau = 0.1
  figure, axes = panels(1, 4, width=2.35, height=2.9)
  clip = -similarity_slopes(lambda a, b: losses.clip(a, b, temperature=tau), similarity)
  siglip = -similarity_slopes(
    lambda a, b: losses.siglip(a, b, temperature=tau, bias=-5.0), similarity
  )
  for ax, matrix, title in ((axes[0], clip, "clip"), (axes[1], siglip, "siglip")):
    heat(ax, matrix, title, "pull on (image i, text j)", np.abs(matrix).max())
    for (i, j), value in np.ndenumerate(matrix / np.abs(matrix).max()):
      if abs(value) > 0.04:
        ax.text(j, i, signed(value), ha="center", va="center", fontsize=7.5,
                color="white" if abs(value) > 0.6 else BLACK)  # fmt: skip
  # Entries ±1, the third the product of the two: any two of them are independent.
  a, b = np.random.default_rng(0).choice([-1.0, 1.0], (2, 8, 512))
  c = a * b
  heat(axes[2], a @ c.T / 512, "two at a time", "s(first i, third j)", 1)
  heat(axes[3], (a * b) @ c.T / 512, "symile", "⟨first i, second i, third j⟩", 1)
  save(figure, "modalities", 0.0)


def draw_noisy():
  """The pull on an anchor's positive, wherever the positive lies."""
  away, tau = np.linspace(2, 178, 89), 0.3
  others = [30, 200, 330, 260]  # two of each view

  def pull(loss):
    def one(angle):
      z = [on_circle(90), *(on_circle(o) for o in others[:2])]
      y = [on_circle(90 + angle), *(on_circle(o) for o in others[2:])]
      return loss(jnp.stack(z), jnp.stack(y))[0]

    # ∂s/∂angle = −sin; the positive is in the anchor's value only by its similarity
    slope = jax.vmap(jax.grad(one))(jnp.asarray(away)) * 180 / np.pi
    return np.asarray(slope) / np.sin(np.deg2rad(away))

  figure, ax = plt.subplots(figsize=(8.0, 3.1))
  cases = [("nt_xent", lambda a, b: losses.nt_xent(a, b, temperature=tau), "-", BLACK)]
  shades = {0.01: GRAY, 0.5: "#67a9cf", 1.0: BLUE}
  for q, color in shades.items():
    cases.append(
      (f"rince, q = {q:g}",
       lambda a, b, q=q: losses.rince(a, b, temperature=tau, q=q, weight=0.025), "-", color)
    )  # fmt: skip
  for name, loss, style, color in cases:
    values = pull(loss)
    ax.plot(np.cos(np.deg2rad(away)), values / values.max(), style, color=color, lw=2, label=name)
  ax.set(xlim=(-1, 1), ylim=(-0.03, 1.08), xlabel="cosine of the anchor and its positive")
  ax.set_ylabel("pull, of its largest")
  ax.text(-0.97, 0.27, "← probably a wrong pair", fontsize=9, color="#333333")
  ax.spines[["top", "right"]].set_visible(False)
  ax.legend(fontsize=9, frameon=False, loc="center left", bbox_to_anchor=(0.0, 0.58))
  save(figure, "noisy", 0.0)


def draw_no_negatives():
  """Where a step of gradient descent moves the vectors of two views."""
  rng = np.random.default_rng(3)
  along = np.linspace(-1, 1, 8)
  x = np.stack([along, 0.55 * along], 1) * 0.75 + 0.07 * rng.normal(size=(8, 2))
  y = x + 0.16 * rng.normal(size=(8, 2))
  away = np.array([0.2, 1.0])  # a direction is of the origin, which is not among the vectors
  cases = [
    ("negative_cosine", lambda p, z: losses.negative_cosine(p + away, z + away).mean(),
     "targets stay"),
    ("barlow_twins", lambda p, z: losses.barlow_twins(p, z, redundancy_weight=1.0),
     "dimensions decorrelate"),
    ("vicreg", lambda p, z: losses.vicreg(p, z), "and keep their variance"),
    ("w_mse", lambda p, z: losses.w_mse(p, z).mean(), "agree when whitened"),
  ]  # fmt: skip
  figure, axes = panels(1, 4, height=2.75)
  for ax, (title, loss, below) in zip(axes, cases, strict=True):
    steps = [-np.asarray(g) for g in jax.grad(loss, argnums=(0, 1))(jnp.asarray(x), jnp.asarray(y))]
    longest = max(np.linalg.norm(s, axis=1).max() for s in steps)
    for start, end in zip(x, y, strict=True):
      ax.plot(*np.stack([start, end]).T, color="#cfcfcf", lw=1, zorder=0)
    for points, step, color in zip((x, y), steps, (BLACK, BLUE), strict=True):
      ax.scatter(*points.T, s=18, color=color, zorder=3)
      ax.quiver(*points.T, *(step / longest * 0.5).T, angles="xy", scale_units="xy", scale=1,
                color=color, width=0.012, alpha=0.7)  # fmt: skip
    ax.set(xlim=(-1.15, 1.15), ylim=(-1.15, 1.15), aspect="equal", xticks=[], yticks=[])
    ax.set_title(title, fontsize=10, family="monospace", pad=3)
    ax.set_xlabel(below, fontsize=9)
    ax.spines[:].set_color("#d8d8d8")
  axes[0].plot(*-away, "+", color=GRAY, ms=9)
  axes[0].text(*(0.09 - away), "0", fontsize=9, color=GRAY)
  figure.text(0.36, 0.0, "● one view", ha="center", va="bottom", fontsize=9, color=BLACK)
  figure.text(0.64, 0.0, "● the other view", ha="center", va="bottom", fontsize=9, color=BLUE)
  save(figure, "no_negatives")


def draw_false_negatives():
  degrees = [90, 56, 200, 145, 14, 270]
  roles = VIEW_ROLES
  tau = 0.3
  cases = [
    ("nt_xent", losses.nt_xent, {}),
    ("debiased", losses.debiased, {"tau_plus": 0.1}),
    ("hard_negative", losses.hard_negative, {"tau_plus": 0.1, "beta": 1.0}),
    ("hard_quantile", losses.hard_quantile, {"alpha": 0.5}),
  ]
  figure, axes = panels(1, 4)
  for ax, (title, loss, arguments) in zip(axes, cases, strict=True):
    pull = of_views(loss, degrees=degrees, temperature=tau, **arguments)
    around_anchor(ax, title, degrees, roles, pull, strength(pull, roles, tau))
    x, y = on_circle(degrees[1])
    ax.scatter(x, y, s=130, facecolors="none", edgecolors=BLUE, linewidths=1.6, zorder=4)
  for at, (words, color) in zip((0.1, 0.27, 0.44, 0.7, 0.93), (
    ("★ anchor", BLACK), ("● positive", BLUE), ("● negative", ORANGE),
    ("◯ a negative of the anchor's own class", BLUE), ("— pushed", PUSH)), strict=True):  # fmt: skip
    figure.text(at, 0.0, words, ha="center", va="bottom", fontsize=9, color=color)
  save(figure, "false_negatives")


def draw_queue():
  """An anchor, its key, two other keys of the batch, three vectors of a queue."""
  degrees = [90, 300, 310, 130, 50, 200, 10, 165, 255]
  keys, queue = [3, 4, 5], [6, 7, 8]
  tau = 0.3
  cases = [
    ("info_nce(a, p)", lambda z: losses.info_nce(z[:3], z[3:6], temperature=tau), queue),
    ("info_nce(a, p, queue)",
     lambda z: losses.info_nce(z[:3], z[3:6], z[6:], temperature=tau), keys[1:]),
  ]  # fmt: skip
  figure, axes = panels(1, 2, width=3.6, height=3.0)
  for ax, (title, loss, ignored) in zip(axes, cases, strict=True):
    row = pulls(lambda z, loss=loss: loss(z)[0], degrees)[0]
    kept = [0, *keys, *queue]
    roles = ["anchor", "positive"] + [
      "ignored" if j in ignored else "negative" for j in kept if j > 3
    ]
    pull = [row[j] for j in kept]
    around_anchor(ax, title, [degrees[j] for j in kept], roles, pull)
    for j in queue:
      color = GRAY if j in ignored else ORANGE
      point(ax, degrees[j], color, "s", 70)
      ax.scatter(*on_circle(degrees[j]), s=12, color="white", zorder=5)
  for at, (words, color) in zip((0.12, 0.29, 0.48, 0.66, 0.86), (
    ("★ anchor", BLACK), ("● its key", BLUE), ("● other keys", ORANGE), ("■ queue", ORANGE),
    ("gray: not in the loss", GRAY)), strict=True):  # fmt: skip
    figure.text(at, 0.0, words, ha="center", va="bottom", fontsize=9, color=color)
  save(figure, "queue")


def main(names):
  jax.config.update("jax_enable_x64", True)
  drawings = {k.removeprefix("draw_"): f for k, f in globals().items() if k.startswith("draw_")}
  for name in names or drawings:
    drawings[name]()


if __name__ == "__main__":
  main(sys.argv[1:])
