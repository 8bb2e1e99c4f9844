"""Criteria: losses on groups of candidates.

A criterion is a frozen dataclass whose fields are the constants of the loss. Methods and terms take
criteria. Functions that take arrays are in `contrastax.losses`. All criteria are built from these
quantities of anchor i and candidate j:

    w⁺_ij, w⁻_ij    the weights of the pair as a positive and as a negative: those of the relation,
                    times the candidate's `as_positive` and `as_negative`
    ℓ_ij            the logit, score_ij / τ_i
    p_i             the mean logit of the positives, Σ_j w⁺_ij ℓ_ij / Σ_j w⁺_ij

A criterion is called as

    criterion(anchors, groups, compare, *, temperature, memory=(), stats=()) -> Outcome

- `anchors`: vectors [n, d] and their sides.
- `groups`: groups of candidates. The first group contains the keys of the anchors. The sides of all
  groups have `as_positive`, `as_negative` and the names that the relation reads.
- `compare`: a `core.Compare`: the relation, the score and its parameters, `same_set` (whether the
  keys are the anchors themselves) and the plan. `evaluate` takes these as arguments.
- `temperature`: τ > 0, scalar or [n]. It may be traced and differentiated.
- `memory`: the result of `init(size)` in the first step, then the `memory` of the previous outcome.
- `stats`: names of quantities to observe, each [n] and without gradient:
    - `positive`: p_i.
    - `count`: Σ_j w⁻_ij.
    - `log_mean`: log-mean-exp of the logits of the negatives, log Σ_j w⁻_ij e^ℓ_ij − log count.
    - `mean_logit`: mean of the logits of the negatives, weighted by their softmax.
    - `divergence`: KL divergence of that softmax from uniform weights, mean_logit − log_mean.
  `positive` is 0 for an anchor without positives. The others are 0 for an anchor without negatives.

The outcome has one `value` per anchor, and `weight`, which is 0 for an anchor without a positive
and 1 for other anchors.

Example:
  >>> import jax
  >>> from contrastax import criteria, relations
  >>> from contrastax.core import Group
  >>> one, index = jax.numpy.ones(8), jax.numpy.arange(8)
  >>> side = {"index": index, "as_positive": one, "as_negative": one}
  >>> x, y = jax.random.normal(jax.random.key(0), (2, 8, 4))
  >>> anchors = Group(x, {**side, "view": 0 * index})
  >>> keys = Group(y, {**side, "view": 0 * index + 1})
  >>> outcome = criteria.evaluate(
  ...   criteria.dcl(), anchors, (keys,), relation=relations.same_example(), temperature=0.1
  ... )
  >>> outcome.value.mean().shape
  ()
"""

from contrastax.criteria.moving import sogclr as sogclr
from contrastax.criteria.sigmoid import siglip as siglip
from contrastax.criteria.softmax import dcl as dcl
from contrastax.criteria.softmax import dclw as dclw
from contrastax.criteria.softmax import debiased as debiased
from contrastax.criteria.softmax import hard_negative as hard_negative
from contrastax.criteria.softmax import info_nce as info_nce
from contrastax.criteria.softmax import sup_con_in as sup_con_in
from contrastax.criteria.softmax_core import evaluate as evaluate
