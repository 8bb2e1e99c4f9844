"""Mining, bands of neighbors and stages, against NumPy on all scores at once."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from contrastax.core import UserError
from contrastax.negatives import mine, mining, rank_band, stages
from contrastax.pairwise import Plan, dot, negative_squared_distance

EPS = np.finfo(np.float32).eps
rng = np.random.default_rng(0)


def cosines(a, b):
  a, b = (np.asarray(x, float) for x in (a, b))
  return (a / np.linalg.norm(a, axis=1)[:, None]) @ (b / np.linalg.norm(b, axis=1)[:, None]).T


def ceilings(scores, positives, margin=None, share=None, at_most=None):
  of_positives = np.take_along_axis(scores, np.maximum(positives, 0), 1)
  least = np.where(positives >= 0, of_positives, np.inf).min(1)
  bounds = [np.full(len(least), np.inf if at_most is None else at_most)]
  if margin is not None:
    bounds.append(least - margin)
  if share is not None:
    bounds.append(np.where(least > 0, share * least, least + (1 - share) * least))
  return np.min(bounds, 0)


def by_hand(scores, positives, k, *, skip=0, **rule):
  """One query at a time, from a stable sort of all scores."""
  positives = positives.reshape(len(scores), -1)
  values, places = np.full((len(scores), k), -np.inf), np.full((len(scores), k), -1)
  for i, bound in enumerate(ceilings(scores, positives, **rule)):
    order = np.argsort(-scores[i], kind="stable")
    admitted = [j for j in order if scores[i, j] <= bound and j not in positives[i]]
    kept = admitted[skip : skip + k]
    places[i, : len(kept)], values[i, : len(kept)] = kept, scores[i, kept]
  return values, places


RULES = {
  "naive": {},
  "shifted": {"skip": 3},
  "absolute": {"at_most": 1.0},
  "margin": {"margin": 1.0},
  "no margin": {"margin": 0.0},
  "share": {"share": 0.5},
  "all": {"margin": 1.0, "share": 0.5, "at_most": 2.0, "skip": 2},
}
BLOCKS = [{}, {"block": 7}, {"block": 16, "plan": Plan((4, 5))}]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("several", [False, True], ids=["one positive", "several"])
def test_each_rule_is_that_of_a_sort_of_all_scores(float64, rule, several):
  rng = np.random.default_rng(0)
  # Small whole numbers: many scores are equal, positives score below 0 too, and all is exact.
  queries, corpus = (rng.integers(-2, 3, (size, 3)).astype(float) for size in (11, 40))
  positives = rng.integers(0, 40, (11, 3) if several else 11)
  if several:
    positives[::2, 0] = -1
    positives[1, 1:] = -1
  scores = queries @ corpus.T
  k = 12 - RULES[rule].get("skip", 0)
  values, places = by_hand(scores, positives, k, **RULES[rule])
  for name in RULES[rule]:  # each argument matters here
    others = {other: value for other, value in RULES[rule].items() if other != name}
    assert (places != by_hand(scores, positives, k, **others)[1]).any()
  for blocks in BLOCKS:
    found = mine(queries, corpus, positives, k=k, score=dot(), **RULES[rule], **blocks)
    np.testing.assert_array_equal(found[1], places)
    np.testing.assert_array_equal(found[0], values)
  assert found[1].dtype == jnp.int32


def test_where_few_are_admitted_the_rest_is_missing(float64):
  corpus = np.eye(4)
  values, places = mine(np.eye(4)[:1], corpus, [0], k=4, at_most=0.5, block=3)
  np.testing.assert_array_equal(places, [[1, 2, 3, -1]])
  np.testing.assert_array_equal(values, [[0, 0, 0, -np.inf]])
  _, places = mine(np.eye(4)[:1], corpus, [[0, 2]], k=2, skip=1)
  np.testing.assert_array_equal(places, [[3, -1]])
  _, places = mine(np.eye(4)[:1], corpus, [0], k=2, margin=1.5)
  np.testing.assert_array_equal(places, [[-1, -1]])


@pytest.mark.parametrize(
  ("score", "of_all"),
  [
    ({}, cosines),
    ({"score": dot()}, lambda a, b: a @ b.T),
    (
      {"score": negative_squared_distance()},
      lambda a, b: -((a[:, None] - b[None]) ** 2).sum(-1),
    ),
  ],
  ids=["cosine", "dot", "distance"],
)
def test_any_score_serves_and_cosine_is_the_default(float64, score, of_all):
  queries, corpus = rng.normal(size=(6, 5)), rng.normal(size=(60, 5))
  positives = rng.integers(0, 60, 6)
  for rule in ({"share": 0.8}, {"margin": 0.1}):
    values, places = by_hand(of_all(queries, corpus), positives, 9, **rule)
    found = mine(queries, corpus, positives, k=9, block=25, **rule, **score)
    np.testing.assert_array_equal(found[1], places)
    np.testing.assert_allclose(found[0], values, rtol=1e-12)


def test_the_share_of_a_negative_score_lies_below_it(float64):
  query, corpus = np.ones((1, 1)), -np.array([[1.0], [0.97], [1.04], [1.06]])
  _, places = mine(query, corpus, [0], k=3, share=0.95, score=dot())
  np.testing.assert_array_equal(places, [[3, -1, -1]])  # 0.95 · −1 would admit all three


# Scores of five queries, those of their positives, and which candidates pass what
# sentence-transformers 6.2.0 (util.mine_hard_negatives) lets pass, in float64.
SCORES = """
 0.9077 -0.1264  0.8819 -0.1626  0.2685 -0.1318  0.5889 -0.2101
-0.1140  0.3579  0.0193  0.8918  0.7094 -0.1831 -0.2154  0.0738
 0.0405  0.1659  0.7867 -0.1186  0.1134  0.4222  0.7989  0.3822
 0.6941  0.0258  0.7174  0.2041  0.3684  0.2177  0.6811  0.2155
 0.8776  0.7887  0.6925  0.6970  0.1414  0.6523  0.8931  0.8841
"""
OF_POSITIVES = [[0.9682], [0.6577, 0.5445], [0.7101], [0.7474], [-0.2]]
THEIRS = [
  ({"margin": 0.1}, ".1.11111 111..111 11.111.1 .1.111.1 ........"),
  ({"share": 0.95}, "11111111 111..111 11.111.1 11.11111 ........"),
  ({"share": 0.95, "at_most": 0.6}, ".1.11111 111..111 11.111.1 .1.111.1 ........"),
  ({"at_most": 0.5}, ".1.111.1 111..111 11.111.1 .1.111.1 ....1..."),
  ({"margin": 0.05, "share": 0.9, "at_most": 0.7}, ".1.11111 111..111 11.111.1 .1.111.1 ........"),
]


@pytest.mark.parametrize(("rule", "theirs"), THEIRS, ids=lambda x: str(x)[:30])
def test_the_rules_are_those_of_sentence_transformers(float64, rule, theirs):
  scores = np.array(SCORES.split(), float).reshape(5, 8)
  count = [len(own) for own in OF_POSITIVES]
  theirs = np.array([[c == "1" for c in row] for row in theirs.split()])
  # Query i is the i-th unit vector, so a corpus of columns has exactly these scores. The
  # positives of other queries score −9: they come last, after all candidates.
  own = np.full((sum(count), 5), -9.0)
  own[np.arange(6), np.repeat(np.arange(5), count)] = np.concatenate(OF_POSITIVES)
  positives = np.full((5, 2), -1)
  positives[:, 0] = 8 + np.cumsum(count) - count
  positives[1, 1] = positives[1, 0] + 1
  corpus = np.concatenate([scores.T, own])
  found, places = map(np.asarray, mine(np.eye(5), corpus, positives, k=8, score=dot(), **rule))
  for i in range(5):
    kept = found[i] > -5
    expected = sorted(np.flatnonzero(theirs[i]), key=lambda j: -scores[i, j])
    np.testing.assert_array_equal(places[i][kept], expected)


def test_a_memory_map_serves(tmp_path):
  corpus = rng.normal(size=(500, 8)).astype(np.float32)
  corpus.tofile(tmp_path / "corpus")
  mapped = np.memmap(tmp_path / "corpus", np.float32, "r", shape=corpus.shape)
  queries, positives = corpus[:20] + 0.3, np.arange(20)
  rule = {"k": 10, "share": 0.9, "block": 64}
  expected = mine(queries, corpus, positives, **rule)
  for form in (mapped, jnp.asarray(corpus), corpus.tolist()):
    jax.tree.map(np.testing.assert_array_equal, mine(queries, form, positives, **rule), expected)


class Rows:
  """A corpus that notes how many rows are read at a time, and is nothing but read."""

  def __init__(self, rows):
    self.rows, self.shape, self.read = rows, rows.shape, []

  def __getitem__(self, places):
    found = self.rows[places]
    self.read.append(len(found))
    return found


def test_the_corpus_is_read_once_in_blocks_of_that_size():
  corpus = Rows(rng.normal(size=(1000, 4)).astype(np.float32))
  mine(corpus.rows[:3], corpus, np.arange(6).reshape(3, 2), k=5, margin=0.1, block=90)
  assert max(corpus.read) <= 90
  # besides the blocks: one row for its type, and each column of positives
  assert sum(corpus.read) == 1000 + 1 + 6


def test_the_device_needs_the_memory_that_is_stated(monkeypatch):
  n, d, m = 1000, 64, 65_536
  corpus = rng.normal(size=(m, d)).astype(np.float32)
  add_block, temporaries = mining._add_block, []

  def measured(*arguments):
    program = add_block.lower(*arguments).compile()
    temporaries.append(program.memory_analysis().temp_size_in_bytes)
    assert arguments[3].nbytes == 4 * d * m / 2  # rows
    return arguments[-1]

  monkeypatch.setattr(mining, "_add_block", measured)
  mine(corpus[:n], corpus, np.arange(n), k=20)
  stated = 4 * d * (m / 2 * 2 + n) + 20e6
  assert len(temporaries) == 2 and max(temporaries) < stated < 4 * n * m / 2


def test_float32_errs_only_where_it_cannot_tell_apart():
  rng = np.random.default_rng(0)
  corpus = rng.normal(size=(2000, 32)).astype(np.float32)
  corpus[1000:] = corpus[:1000]  # copies of every positive, on the bound of margin 0
  positives = np.arange(60)
  queries = corpus[:60] + 0.8 * rng.normal(size=(60, 32)).astype(np.float32)
  exact = cosines(queries, corpus)
  bound = ceilings(exact, positives[:, None], margin=0.0)
  values, places = (np.asarray(x) for x in mine(queries, corpus, positives, k=5, margin=0.0))
  assert not (places == positives[:, None]).any()
  found = np.take_along_axis(exact, places, 1)
  assert (found <= bound[:, None] + 8 * EPS).all()
  np.testing.assert_allclose(values, found, atol=8 * EPS)
  best = by_hand(exact, positives, 5, margin=1e-6)[0]  # of what surely is admitted
  assert (found >= best - 8 * EPS).all()


@pytest.mark.parametrize("dtype", [np.float16, np.int8, np.float64])
def test_a_corpus_of_another_type_than_the_queries(dtype):
  corpus = (30 * rng.normal(size=(200, 8))).astype(dtype)
  queries = rng.normal(size=(9, 8)).astype(np.float32)
  for rule in ({"share": 0.9}, {"share": 0.9, "score": dot()}):
    mined = functools.partial(mine, positives=np.arange(9), k=7, block=60, **rule)
    found, expected = mined(queries, corpus), mined(queries, corpus.astype(np.float32))
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_a_corpus_that_is_not_finite_is_refused_by_its_first_row():
  for wrong in (np.nan, np.inf):
    corpus = rng.normal(size=(30, 4)).astype(np.float32)
    corpus[[17, 20], 1] = wrong  # in the second block
    with pytest.raises(UserError, match="row 17 of corpus has a NaN or an infinity"):
      mine(corpus[:2], corpus, [0, 1], k=29, block=11)
    with pytest.raises(UserError, match="row 17 of embeddings has a NaN or an infinity"):
      rank_band(corpus, 0, 3)


GOOD = {"queries": np.ones((2, 3)), "corpus": np.ones((5, 3)), "positives": [0, 1], "k": 2}


@pytest.mark.parametrize(
  ("wrong", "message"),
  [
    ({"queries": np.ones((2, 4))}, r"with the same d, not \(2, 4\) and \(5, 3\)"),
    ({"queries": np.ones(3)}, r"queries must be \[n, d\]"),
    ({"corpus": np.ones((5, 3, 1))}, r"the corpus \[m, d\]"),
    ({"queries": np.ones((0, 3)), "positives": np.zeros(0, int)}, r"n > 0, .* not \(0, 3\)"),
    ({"positives": [0, 1, 2]}, r"int \[2\] or \[2, p\], not int64 \[3\]"),
    ({"positives": [0.0, 1.0]}, r"int \[2\] or \[2, p\], not float64 \[2\]"),
    ({"positives": np.zeros((2, 1, 1), int)}, r"not int64 \[2, 1, 1\]"),
    ({"positives": [0, 5]}, r"positions 0 to 4 of the corpus, or −1 for none, not 5"),
    ({"positives": [0, -2]}, r"not -2"),
    ({"positives": [0, -1]}, r"query 1 has no positive; leave such queries out"),
    ({"positives": np.zeros((2, 0), int)}, r"query 0 has no positive"),
    ({"k": 0}, r"k must be an integer of at least 1, not 0"),
    ({"k": 2.0}, r"k must be an integer of at least 1, not 2.0"),
    ({"skip": -1}, r"skip must be an integer of at least 0, not -1"),
    ({"block": 0}, r"block must be an integer of at least 1, not 0"),
    ({"skip": 4}, r"k \+ skip must be at most 5, the size of the corpus, not 2 \+ 4"),
    ({"margin": -0.1}, r"margin must be a number of at least 0, not -0.1"),
    ({"margin": np.nan}, r"margin must be a number of at least 0, not nan"),
    (
      {"share": 0},
      r"share must be above 0 and at most 1, not 0; for 5 % below the positive, use 0.95",
    ),
    ({"share": 95}, r"not 95;"),
    ({"share": np.nan}, r"not nan;"),
    ({"share": "0.95"}, r"not '0.95';"),
    ({"at_most": np.inf}, r"at_most must be a finite number, not inf"),
    ({"queries": np.array([[1.0] * 3, [np.nan] * 3])}, r"row 1 of queries has a NaN"),
  ],
  ids=lambda x: str(x)[:40] if isinstance(x, str) else None,
)
def test_mistakes_in_mining_are_named(wrong, message):
  with pytest.raises(UserError, match=message) as error:
    mine(**{**GOOD, **wrong})
  assert "\n" not in str(error.value)


# Bands of neighbors


@pytest.mark.parametrize("score", [{}, {"score": dot()}], ids=["cosine", "dot"])
def test_a_band_is_a_slice_of_a_sort(float64, score):
  z = rng.integers(-2, 3, (30, 3)).astype(float) if score else rng.normal(size=(30, 3))
  scores = z @ z.T if score else cosines(z, z)
  np.fill_diagonal(scores, -np.inf)
  order = np.argsort(-scores, axis=1, kind="stable")
  for first, last in ((0, 1), (3, 9), (20, 29)):
    np.testing.assert_array_equal(rank_band(z, first, last, **score), order[:, first:last])
  some = np.array([29, 4, 4])
  found = rank_band(z, 3, 9, queries=some, **score)
  np.testing.assert_array_equal(found, order[some, 3:9])
  assert found.dtype == jnp.int32


def test_all_bands_together_are_all_others_once():
  z = rng.normal(size=(12, 3))
  bands = [rank_band(z, *band) for band in ((0, 4), (4, 5), (5, 11))]
  for i, row in enumerate(np.concatenate(bands, axis=1)):
    assert sorted(row) == [j for j in range(12) if j != i]


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ((np.ones(3), 0, 1), r"embeddings must be \[n, d\], not \(3,\)"),
    ((np.ones((9, 2)), 3, 3), r"0 ≤ first < last ≤ 8, .* not first = 3, last = 3"),
    ((np.ones((9, 2)), -1, 3), r"first = -1"),
    (
      (np.ones((9, 2)), 0, 9),
      r"first < last ≤ 8, the number of other examples, not first = 0, last = 9",
    ),
    ((np.ones((9, 2)), 0, 2.0), r"last = 2.0"),
    ((np.ones((9, 2)), 0, 2, [9]), r"positions 0 to 8 of the embeddings, not 9"),
    ((np.ones((9, 2)), 0, 2, [-1]), r"not -1"),
    ((np.ones((9, 2)), 0, 2, [0.5]), r"int \[q\], not float64 \[1\]"),
    ((np.ones((9, 2)), 0, 2, []), r"int \[q\], not float64 \[0\]"),
  ],
)
def test_mistakes_in_bands_are_named(arguments, message):
  z, first, last, *queries = arguments
  with pytest.raises(UserError, match=message) as error:
    rank_band(z, first, last, queries=queries[0] if queries else None)
  assert "\n" not in str(error.value)


# Stages


def partition(labels):
  """The sets of examples of one label, whatever its number."""
  return {frozenset(np.flatnonzero(labels == one)) for one in np.unique(labels)}


def blobs(factor, seed):
  centers = 20 * np.eye(4)
  return centers[factor] + 0.1 * np.random.default_rng(seed).normal(size=(len(factor), 4))


def test_two_stages_tell_apart_what_either_does():
  color, shape = np.arange(240) % 4, np.arange(240) // 60 % 3
  first = stages(blobs(color, 0), clusters=4)
  assert partition(first) == partition(color)
  second = stages(blobs(shape, 1), first, clusters=3)
  assert partition(second) == partition(4 * shape + color)
  # A third stage of features that are known already changes nothing.
  assert partition(stages(blobs(shape, 2), second, clusters=3)) == partition(second)


def test_joint_labels_refine_and_have_no_gaps():
  z = rng.normal(size=(300, 6))
  earlier = np.random.default_rng(1).choice([-7, 3, 90], 300)
  now, joint = stages(z), stages(z, earlier)
  assert joint.dtype == np.int32
  np.testing.assert_array_equal(np.unique(joint), np.arange(joint.max() + 1))
  assert joint.max() + 1 > max(10, 3)
  pairs = {(a, b): j for a, b, j in zip(earlier, now, joint, strict=True)}
  assert len(pairs) == len(set(pairs.values())) == joint.max() + 1
  expected = [pairs[pair] for pair in zip(earlier, now, strict=True)]
  np.testing.assert_array_equal(joint, expected)


def test_the_same_seed_gives_the_same_labels():
  z = rng.normal(size=(3000, 16))
  with threadpool_limits(1):
    once = stages(z, seed=3)
  np.testing.assert_array_equal(stages(z, seed=3), once)
  assert partition(stages(z, seed=4)) != partition(once)


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ((np.ones(4),), r"features must be \[n, d\], not \(4,\)"),
    ((np.ones((4, 2)), np.zeros(3, int)), r"int \[4\], one label for each row .* not int64 \[3\]"),
    ((np.ones((4, 2)), np.zeros(4)), r"not float64 \[4\]"),
    ((np.ones((4, 2)), None, 5), r"clusters must be from 2 to 4, the number of examples, not 5"),
    ((np.ones((4, 2)), None, 1), r"not 1"),
    ((np.array([[1.0], [np.nan], [1.0]]), None, 2), r"the features of example 1 are not finite"),
  ],
)
def test_mistakes_in_stages_are_named(arguments, message):
  features, *rest = arguments
  earlier, clusters = [*rest, None, 2][:2] if len(rest) < 2 else rest
  with pytest.raises(UserError, match=message) as error:
    stages(features, earlier, clusters=clusters)
  assert "\n" not in str(error.value)
