"""Sources with a memory, all of them: gradients, saved states, precision, refusals and devices."""

import dataclasses

import all_methods
import chex
import jax
import jax.numpy as jnp
import numpy as np
import processes
import pytest
from remembered import EXAMPLES, after, begun, candidates, keys_of, said

from contrastax.core import Group
from contrastax.negatives.bank import bank
from contrastax.negatives.clusters import clusters
from contrastax.negatives.queue import queues
from contrastax.negatives.sources import in_batch
from contrastax.pairwise import Plan
from contrastax.relations import negatives_differ, same_example

ALL = [
  bank(), bank(sample=7), queues(3, "label", 5), clusters(4), clusters(4, shared=False)
]  # fmt: skip


@pytest.mark.parametrize("source", ALL, ids=str)
def test_keys_and_what_is_kept_have_no_gradient(float64, source):
  rng = np.random.default_rng(11)
  steps = [keys_of(rng, 6) for _ in range(3)]
  state = after(source, steps)

  def kept(vectors):
    moved = source.advance(state, Group(vectors, steps[0].side))
    return sum((x**3).sum() for x in jax.tree.leaves(moved) if x.dtype == vectors.dtype)

  def appended(vectors):
    anchors = Group(vectors, steps[0].side)
    return (candidates(source, state, anchors)[1][-1].vectors ** 3).sum()

  for total in (kept, appended):
    value, gradient = jax.jit(jax.value_and_grad(total))(steps[0].vectors)
    assert value != 0
    np.testing.assert_array_equal(gradient, 0)


@pytest.mark.parametrize("source", ALL, ids=str)
def test_a_state_that_was_saved_goes_on_as_if_it_had_not_been(tmp_path, source):
  from contrastax.training import Checkpoints

  rng = np.random.default_rng(12)
  steps = [keys_of(rng, 6) for _ in range(6)]
  state = after(source, steps[:4])
  shapes = jax.tree.map(lambda x: (x.shape, x.dtype, x.weak_type), begun(source, steps[0]))
  assert jax.tree.map(lambda x: (x.shape, x.dtype, x.weak_type), state) == shapes
  checkpoints = Checkpoints(tmp_path / "of")
  checkpoints.save(4, state)
  checkpoints.wait()
  restored = checkpoints.restore(4, begun(source, steps[0]))
  checkpoints.close()
  restored = after(source, steps[4:], restored)
  straight = after(source, steps)
  jax.tree.map(np.testing.assert_array_equal, restored, straight)
  ours, theirs = (candidates(source, s, steps[0])[1] for s in (restored, straight))
  jax.tree.map(np.testing.assert_array_equal, ours, theirs)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("source", ALL, ids=str)
def test_half_precision_stays_so(source, dtype):
  rng = np.random.default_rng(13)

  def half(x):
    return np.asarray(x).astype(dtype) if x.dtype.kind == "f" else x

  steps = [jax.tree.map(half, keys_of(rng, 6)) for _ in range(3)]
  _, groups = candidates(in_batch() + source, ((), after(source, steps)), steps[0])
  assert [group.vectors.dtype for group in groups] == [dtype, dtype]
  chex.assert_tree_all_finite(groups[1].vectors)
  assert len({frozenset(group.side) for group in groups}) == 1


def wrong_at_init(source, examples=EXAMPLES, **side):
  keys = keys_of(np.random.default_rng(0), 6, **side)
  return lambda: begun(source, keys, examples)


@pytest.mark.parametrize(
  ("wrong", "message"),
  [
    (wrong_at_init(bank(), 0), "examples is 0; give the method examples=…"),
    (wrong_at_init(bank(sample=21)), "cannot draw 21 of 20 examples; use a smaller sample"),
    (lambda: bank(sample=0), "sample must be an integer of at least 1, or None for all, not 0"),
    (lambda: bank(momentum=1), "momentum must be at least 0 and below 1, not 1"),
    (wrong_at_init(queues(4, "language", 3)), "needs the side 'language', but the keys have as_"),
    (
      wrong_at_init(queues(4, "label", 3), label=np.zeros(6)),
      "one integer for each key, but 'label' is float32 [6]; number its values from 0",
    ),
    (
      wrong_at_init(queues(4, "guide", 3), guide=np.zeros((6, 2), np.int32)),
      "'guide' is int32 [6, 2]",
    ),
    (lambda: queues(0, "label", 3), "the size of a queue must be an integer of at least 1, not 0"),
    (lambda: queues(4, "label", 0), "count must be an integer of at least 1, not 0"),
    (
      lambda: after_one(queues(4, "label", 3), label=np.array([0, 2, -1, 3, 0, 0], np.int32)),
      "a key's 'label' must be 0 to 2, or −1 for none, not 3; set count to one more",
    ),
    (wrong_at_init(clusters(7)), "7 clusters need as many keys in one step, which has 6; use fewer"),
    (wrong_at_init(clusters(3), cluster=np.zeros(6)), "the data have an array 'cluster'; rename it"),
    (lambda: clusters(1), "clusters: count must be an integer of at least 2, not 1"),
    (lambda: clusters(4, warmup=-1), "clusters: warmup must be an integer of at least 0, not -1"),
    (lambda: clusters(4, momentum=1.5), "momentum must be at least 0 and below 1, not 1.5"),
  ],
)  # fmt: skip
def test_what_a_user_gets_wrong_is_said_in_one_line(wrong, message):
  assert message in said(wrong)


def after_one(source, **side):
  keys = keys_of(np.random.default_rng(0), 6, **side)
  return source.advance(begun(source, keys), keys)


def everything(wide, plan, view):
  """A method with all of them."""
  moco = all_methods.parts(wide, plan, view)["MoCo"]
  return dataclasses.replace(
    moco,
    negatives=in_batch() + bank(sample=32) + queues(5, "label", 10) + clusters(8),
    relation=same_example() & negatives_differ("cluster"),
    examples=64,
  )


def test_one_and_eight_devices():
  """Three steps of MoCo on digits, with labels of unequal number."""
  (result,) = processes.measured(__file__).values()
  assert result["apart"] < 1e-10, result
  assert result["moved"]["state contrast negatives"], result


if __name__ == "__main__":
  import contract
  import optax

  contract.cases = lambda mesh, view=all_methods.noise: {
    "MoCo": (everything(contract.wide, Plan(mesh=mesh), view), optax.sgd(0.1, 0.9))
  }
  contract.main("quick", 0, 1, 3, 1, 8)
