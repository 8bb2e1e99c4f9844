"""The retrieval of partners in runs with two inputs."""

import json

import numpy as np
import optax
import pytest

from contrastax import encoders, evaluation, methods, training, views
from contrastax.cli import main
from contrastax.data.dataset import encode_texts
from contrastax.experiments.partners import partners, recall_of_partners
from contrastax.relations import other_view, same_example
from contrastax.terms import Contrast


def test_recall_is_the_share_of_partners_among_the_k_nearest():
  rng = np.random.default_rng(0)
  queries, others = rng.normal(size=(2, 40, 3)).astype(np.float32)
  found = recall_of_partners(queries, others, np.arange(40))
  a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (queries, others))
  rank = (a @ b.T > (a * b).sum(1)[:, None] + 1e-7).sum(1)
  assert found == {1: np.mean(rank < 1), 10: np.mean(rank < 10)} and 0 < found[1] < found[10] < 1
  assert recall_of_partners(queries, queries, np.arange(40)) == {1: 1.0, 10: 1.0}


def test_equal_partners_are_one_candidate():
  eye = np.eye(4, dtype=np.float32)
  pairs = np.repeat(eye, 3, 0)
  assert recall_of_partners(pairs, pairs, np.repeat(np.arange(4), 3)) == {1: 1.0}
  assert recall_of_partners(pairs, pairs, np.arange(12))[1] == pytest.approx(1 / 3)
  collapsed = np.ones((12, 4), np.float32)
  assert recall_of_partners(pairs, collapsed, np.arange(12))[1] == pytest.approx(1 / 12)


def test_too_few_candidates_and_vectors_that_are_not_finite():
  x = np.ones((12, 4), np.float32)
  assert recall_of_partners(x, x, np.zeros(12)) == {}
  assert np.isnan(recall_of_partners(np.full_like(x, np.nan), x, np.arange(12))[1])


RNG = np.random.default_rng(1)
ARRAYS = {
  "image": RNG.integers(0, 256, (24, 4, 4, 1), dtype=np.uint8),
  "text": encode_texts([f"text {i % 12}" for i in range(24)]),
  "index": np.arange(24, dtype=np.int32),
}
MLP, TEXT = encoders.mlp((8,)), encoders.text(width=8, depth=1, heads=1)
HEADS = [encoders.projection((), out=8) for _ in range(2)]
TWO = {
  "CLIP": methods.CLIP(
    encoder=MLP, projection=HEADS[0], other_encoder=TEXT, other_projection=HEADS[1],
    views=views.unchanged(),
  ),
  "Pairs": methods.Pairs(
    encoder=MLP, projection=HEADS[0], other_encoder=TEXT, other_projection=HEADS[1],
    inputs=("image", "text"),
  ),
  "Pairs without projections": methods.Pairs(
    encoder=MLP, other_encoder=TEXT, inputs=("image", "text")
  ),
  "Towers": methods.Towers(
    towers=(
      methods.Tower(tag="first", input="image", encoder=MLP, projection=HEADS[0]),
      methods.Tower(tag="second", input="text", encoder=TEXT, projection=HEADS[1]),
    ),
    terms=(Contrast(anchors="z", rows=2, relation=same_example() & other_view()),),
  ),
}  # fmt: skip


@pytest.mark.parametrize("name", TWO)
def test_each_method_with_two_inputs_has_both_directions(name):
  state = training.init(TWO[name], optax.sgd(0.1), ARRAYS)
  found = partners(TWO[name], {"trained": state}, ARRAYS)
  assert found is not None and found["examples"] == 24
  tags = ("first_", "second_") if name == "Towers" else ("", "other_")
  vectors = []
  for tag, encoder, head, field in zip(tags, (MLP, TEXT), HEADS, ("image", "text"), strict=True):
    own = f"{tag}encoder"
    x = evaluation.embed(encoder, state.params[own], state.state[own], ARRAYS[field])
    if "without" not in name:
      own = f"{tag}projection"
      x = evaluation.embed(head, state.params[own], state.state[own], x)
    vectors.append(x / np.linalg.norm(x, axis=1, keepdims=True))
  image, text = vectors
  to_text = (image @ text[:12].T).argmax(1) == np.arange(24) % 12
  to_image = (text @ image.T).argmax(1) == np.arange(24)
  recall = found["recall"]["trained"]
  assert recall["image → text recall@1"] == pytest.approx(to_text.mean())
  assert recall["text → image recall@1"] == pytest.approx(to_image.mean())
  assert len(recall) == 4 and all(0 <= value <= 1 for value in recall.values())


def test_methods_with_another_number_of_inputs_have_no_partners():
  simclr = methods.SimCLR(encoder=MLP, projection=HEADS[0], views=views.unchanged())
  same = methods.Pairs(encoder=MLP, inputs=("image", "image"))
  for method in (simclr, same):
    assert partners(method, {}, ARRAYS) is None


def test_the_summary_and_the_page_have_the_recall(tmp_path, capsys):
  """Of a run without labels."""
  images = RNG.integers(0, 256, (80, 4, 4, 1), dtype=np.uint8)
  texts = np.array([f"text {i}" for i in range(80)])
  np.savez(tmp_path / "pairs.npz", image=images, text=texts, character=np.arange(80))
  options = (
    f"data=npz:{tmp_path / 'pairs.npz'}", "steps=2", "optimizer.warmup=1", "batch_size=16",
    "method.encoder.name=mlp", "method.encoder.widths=(8,)", "method.other_encoder.width=8",
    "method.other_encoder.heads=1", "method.views.name=unchanged",
  )  # fmt: skip
  flags = [f"--config.{option}" for option in options]
  assert main(["run", "glyphs_clip:runlocal", f"--workdir={tmp_path / 'run'}", *flags]) == 0
  found = json.loads((tmp_path / "run" / "summary.json").read_text())["partners"]["recall"]
  assert list(found) == ["untrained", "trained"]
  name = "image → text recall@1"
  now, before = (100 * found[row][name] for row in ("trained", "untrained"))
  page = (tmp_path / "run" / "report.html").read_text()
  assert "Retrieval of the partner" in page and f"{found['trained'][name]:.3f}" in page
  assert f"Image → text recall@1 among 16 test examples is {now:.1f} %, and {before:.1f} %" in page
  assert "alignment" not in page and name in capsys.readouterr().out
