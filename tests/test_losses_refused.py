"""What cannot be meant by a call of a loss is refused in one line."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from loss_groups import GROUPS, STATS, each_group_loss, graded, weighted_problem

from contrastax import criteria, losses

# What cannot be meant, in one line with what was found.

z, w = np.eye(4, 3, dtype=np.float32), np.ones((4, 3), np.float32)
PAIRED = {
  "clip": losses.clip,
  "dcl": losses.dcl,
  "dclw": losses.dclw,
  "debiased": functools.partial(losses.debiased, tau_plus=0.1),
  "hard_negative": functools.partial(losses.hard_negative, beta=1.0, tau_plus=0.1),
  "info_nce": losses.info_nce,
  "nt_xent": losses.nt_xent,
  "siglip": functools.partial(losses.siglip, bias=0.0),
}
LABELED = {"sup_con": losses.sup_con, "sup_con_in": losses.sup_con_in}


def refused(call, *parts):
  with pytest.raises(ValueError) as error:
    call()
  message = str(error.value)
  assert "\n" not in message
  for part in parts:
    assert part in message


@pytest.mark.parametrize("name", PAIRED)
def test_arrays_that_do_not_belong_together_are_refused(name):
  loss = functools.partial(PAIRED[name], temperature=0.1)
  refused(lambda: loss(z, w[:2]), "(4, 3)", "(2, 3)")
  refused(lambda: loss(z, w[:, :2]), "(4, 3)", "(4, 2)")
  refused(lambda: loss(z[0], w[0]), "(3,)")
  refused(lambda: loss(z[:0], w[:0]), "(0, 3)")


@pytest.mark.parametrize("name", LABELED)
def test_labels_that_are_not_one_for_each_vector_are_refused(name):
  loss = functools.partial(LABELED[name], temperature=0.1)
  refused(lambda: loss(z, np.array([0, 0, 1])), "(3,)", "[4]")
  refused(lambda: loss(z, np.zeros((4, 2), int)), "(4, 2)", "[4]")
  refused(lambda: loss(z[0], np.array([0, 0, 1])), "(3,)")
  refused(lambda: loss(z[:0], np.zeros(0, int)), "(0, 3)")


@pytest.mark.parametrize("shape", [(0, 3), (4, 0, 3), (3, 2, 3), (2, 4), (4, 2, 4), (3,)], ids=str)
def test_negatives_that_are_none_or_do_not_fit_are_refused(shape):
  refused(lambda: losses.info_nce(z, w, jnp.zeros(shape), temperature=0.1), str(shape), "(4, 3)")


@pytest.mark.parametrize("name", [*PAIRED, *LABELED])
def test_a_temperature_that_is_none_is_refused(name):
  """Where its value is known; a traced one is the caller's."""
  if name in LABELED:
    loss, anchors = functools.partial(LABELED[name], z, np.array([0, 0, 1, 1])), 4
  else:
    loss = functools.partial(PAIRED[name], z, w)
    anchors = 4 if name in ("clip", "info_nce", "siglip") else 8
  for wrong in (0, 0.0, -0.1, np.float32(0), jnp.zeros(()), np.nan):
    refused(lambda wrong=wrong: loss(temperature=wrong), "above 0", str(wrong))
  one_wrong = np.where(np.arange(anchors) == 2, -2.0, 0.1)
  refused(lambda: loss(temperature=one_wrong), "above 0", "-2.0")
  for shape in ((3,), (1,), (anchors, 1)):
    refused(lambda shape=shape: loss(temperature=np.ones(shape)), str(shape), str(anchors))
  if name == "clip":
    refused(lambda: loss(temperature=(0.1, 0.0)), "above 0")
    refused(lambda: loss(temperature=(np.ones(3), 0.1)), "(3,)")
  jax.eval_shape(lambda t: loss(temperature=t), jnp.zeros(()))


@each_group_loss
def test_losses_on_groups_refuse_the_same(name):
  anchors, groups, tau = jax.tree.map(lambda x: jnp.asarray(x), weighted_problem())
  loss = functools.partial(GROUPS[name][0], relation=graded())
  refused(lambda: loss(anchors, groups, temperature=-tau), "above 0")
  refused(lambda: loss(anchors, groups, temperature=tau[:2]), "(2,)", "5")
  refused(lambda: loss(anchors, (), temperature=tau), "no candidate group")
  empty = jax.tree.map(lambda x: x[:0], groups[1])
  refused(lambda: loss(anchors, (groups[0], empty), temperature=tau), "(0, 4)", "(5, 4)")
  refused(
    lambda: loss(anchors, groups, temperature=tau, stats=("mean",)),
    "unknown stats ['mean']", *STATS,
  )  # fmt: skip


@pytest.mark.parametrize("module", [losses, criteria], ids=["arrays", "criteria"])
def test_parameters_out_of_their_range_are_refused(module):
  """Of a criterion when it is made."""
  given = {"z1": z, "z2": w, "temperature": 0.1} if module is losses else {}
  hard, debiased, dclw = (
    functools.partial(loss, **given)
    for loss in (module.hard_negative, module.debiased, module.dclw)
  )
  for wrong in (-0.1, 1.0, 2.0, np.nan):
    refused(lambda wrong=wrong: debiased(tau_plus=wrong), "tau_plus", str(wrong))
    refused(lambda wrong=wrong: hard(beta=1.0, tau_plus=wrong), "tau_plus", str(wrong))
  for wrong in (-1.0, np.nan):
    refused(lambda wrong=wrong: hard(beta=wrong, tau_plus=0.1), "beta", str(wrong))
  for wrong in (0.0, -1.0, np.nan):
    refused(lambda wrong=wrong: dclw(sigma=wrong), "sigma", str(wrong))


def test_what_is_no_criterion_is_refused():
  anchors, groups, tau = weighted_problem()
  call = functools.partial(
    criteria.evaluate, anchors=anchors, groups=groups, relation=graded(), temperature=tau
  )
  refused(lambda: call(criteria.dcl), "dcl is a class; give an instance, dcl()")
  refused(lambda: call(losses.dcl), "criterion must be a core.Criterion", "criteria.info_nce()")


def test_sogclr_refuses_numbers_out_of_range_when_made_and_a_call_without_memory():
  for wrong in (0.0, 1.5, np.nan):
    refused(lambda wrong=wrong: criteria.sogclr(gamma=wrong), "gamma", str(wrong))
  anchors, groups, tau = weighted_problem()
  refused(
    lambda: criteria.evaluate(
      criteria.sogclr(), anchors, groups, relation=graded(), temperature=tau
    ),
    "memory=sogclr().init(size)",
  )  # fmt: skip
