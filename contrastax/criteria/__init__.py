"""Criteria: losses on groups of candidates, frozen dataclasses of their own numbers.

With w⁺_ij and w⁻_ij the weights of pair (i, j) as positive and as negative (the relation's,
times the candidate's `as_positive` and `as_negative`), ℓ_ij = score_ij / τ_i, and

  p_i = Σ_j w⁺_ij ℓ_ij / Σ_j w⁺_ij,

they differ in what is done with these. Each is called as `core.Criterion` states:

  criterion(anchors, groups, compare, *, temperature, memory=(), stats=()) -> Outcome

  anchors: vectors [n, d]. groups: candidates, the anchors' keys first; their sides have
    `as_positive` and `as_negative` besides what the relation reads.
  compare: the relation, the score and its parameters, `same_set` (the keys are the anchors
    themselves), and the plan by which all pairs are evaluated.
  temperature: τ > 0, scalar or [n], may be traced and differentiated.
  memory: what `init(size)` returned at first, then the `memory` of the outcome before.
  stats: names of what to observe, each [n], without gradient:
    `positive`   p_i;
    `count`      Σ_j w⁻_ij;
    `log_mean`   log-mean-exp of the negatives' logits, log Σ_j w⁻_ij e^ℓ_ij − log count;
    `mean_logit` mean of the negatives' logits under their own softmax;
    `divergence` KL of that softmax from uniform weights, mean_logit − log_mean: how hard it chooses.
    For an anchor without positives `positive` is 0, without negatives the others are 0.

The outcome has one value per anchor, and `weight`, 0 for an anchor without a positive, else 1.
`evaluate` calls a criterion with the parts of `compare` by name.

Example:
  outcome = criteria.evaluate(
    criteria.dcl(), anchors, (keys,), relation=relations.same_example(), temperature=0.1
  )
  outcome.value.mean()
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
