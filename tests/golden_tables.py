"""Which row computes what an implementation does, on which scores, and what is left out and why."""

import functools

import jax.numpy as jnp
import numpy as np
from golden_ours import labeled
from golden_rows import (
  COSINE_MARGIN,
  MARGIN,
  align_and_uniform,
  angle_in_batch,
  barlow_twins,
  both_gradients,
  cacr,
  clip_distilled,
  clip_mean,
  clip_of_three,
  clip_personal,
  dhel_of_pairs,
  dhel_of_the_rest,
  dialog2flow,
  dino,
  examples,
  groco,
  hard_pairs,
  imix,
  labeled_loss,
  labeled_of,
  matryoshka,
  mochi,
  moco_v3_both,
  multi_similarity,
  nearest_neighbors,
  neighbors,
  nt_xent_detached,
  on_views,
  one_way_mean,
  others_of_its_class,
  paired_negatives,
  pairs_mean,
  pairs_mean_by_anchor,
  pairs_memory,
  queue_as_it_is,
  ranking,
  ranking_both_ways,
  ranking_directions,
  ressl,
  rince,
  siglip,
  simco,
  simcse,
  simsiam_both,
  spectral,
  sup_con,
  sup_con_in,
  sup_con_memory,
  sup_con_of_those_with_positives,
  sup_con_view_0,
  swav,
  symile,
  times,
  triplet,
  two_sets,
  vicreg,
  view_pairs,
  views_mean,
  with_proxies,
)

from contrastax import evaluation, losses
from contrastax.pairwise import dot, negative_squared_distance


def words(text):
  return text.split()


NT_XENT, IN_BATCH, QUEUE = (
  views_mean("nt_xent"), one_way_mean("z1", "z2"), one_way_mean("q", "k", "queue"),
)  # fmt: skip
ROWS = {
  "ntxent": NT_XENT,
  "ntxent__pml_selfsup_asym": IN_BATCH,
  "ntxent__pygcl_oneway": views_mean("nt_xent", view=0),
  "ntxent__suncet": nt_xent_detached,
  "ntxent__supcontrast_official_base07": times(lambda tau: tau / 0.07, NT_XENT),
  "ntxent_sum2": times(2, NT_XENT),
  "nt_xent": NT_XENT,
  "nnclr_ntxent": nearest_neighbors,
  "avg_infonce": view_pairs,
  "pwe_infonce": view_pairs,
  "mv_ntxent": lambda x, p, score: labeled("sup_con", *examples(x), p.tau, score).mean(),
  "polyview_geometric": on_views("poly_view"),
  "infonce_inbatch": IN_BATCH,
  "infonce_inbatch_extraneg": one_way_mean("z1", "z2", "z3", in_batch=True),
  "infonce_paired": paired_negatives,
  "infonce_refposneg": one_way_mean("ref", "pos", "neg", loss="dcl"),
  "infonce_sym": clip_mean("z1", "z2"),
  "nnclr": IN_BATCH,
  "mocov3": times(lambda tau: 2 * tau, IN_BATCH),
  "mocov3__mmpretrain": IN_BATCH,
  "moco_queue__mmpretrain": queue_as_it_is,
  "mocov3__official_sym": moco_v3_both,
  "moco_queue": QUEUE,
  "moco_queue__vissl": functools.partial(queue_as_it_is, keys=lambda k: k),
  "imix": imix,
  "mochi": mochi,
  "ressl": ressl,
  "dcl": views_mean("dcl"),
  "dcl__raminnakhli": views_mean("dcl", view=0),
  "dcl__raminnakhli_sym": times(2, views_mean("dcl")),
  "dclw": views_mean("dclw", "sigma"),
  "debiased": views_mean("debiased", "tau_plus"),
  "debiased__hcl_beta0": views_mean("hard_negative", "tau_plus", "beta"),
  "hcl": views_mean("hard_negative", "tau_plus", "beta"),
  "dse_hard_negative": hard_pairs,
  "supcon": sup_con,
  "supcon__official_1view_base07": times(lambda tau: tau / 0.07, sup_con),
  "supcon__pml": sup_con_of_those_with_positives,
  "supcon_2view": sup_con,
  "supcon_2view__official_all_base07": times(lambda tau: tau / 0.07, sup_con),
  "supcon_2view__official_one": sup_con_view_0,
  "supcon_in": sup_con_in,
  "supcon_in__bosch_rince": functools.partial(sup_con_in, cut=1e-7),
  "supcon_2view_in": sup_con_in,
  "supcon_pairdenom": pairs_mean,
  "supcon_pairdenom__bosch_rince": functools.partial(pairs_mean, cut=1e-7),
  "supcon_pairdenom__solo_learn_pypi": pairs_mean_by_anchor,
  "xbm__pml_supcon": sup_con_memory,
  "xbm__pml_ntxent": pairs_memory,
  "clip": clip_mean("a", "b"),
  "clip__isogclr_repo": clip_personal,
  "clip_distill": clip_distilled,
  "pairwise_clip3": clip_of_three,
  "siglip": siglip,
  "mnrl": ranking_directions,
  "cached_mnrl": ranking,
  "mnr_symmetric": ranking_both_ways,
  "matryoshka_mnrl": matryoshka,
  "simcse": simcse,
  "diffcse_contrastive": simcse,
  "inbatch_negative": angle_in_batch,
  "dialog2flow_soft": dialog2flow,
  "triplet_labels_all": triplet("batch all"),
  "triplet_labels_all__pml": triplet("batch all", normal=True),
  "triplet_labels_batchhard": triplet("batch hard"),
  "triplet_labels_batchhard__pml": triplet("batch hard", normal=True, over="not 0"),
  "triplet_labels_batchhard__pml_meanreducer": triplet(
    "batch hard", normal=True, over="with positives"
  ),
  "triplet_labels_semihard": triplet("semi-hard"),
  "npairs": lambda x, p, score: losses.n_pairs(x.x, x.z, x.y, l2_weight=p.l2_reg).mean(),
  "circle_anchor": labeled_loss("circle", margin="m", scale="gamma"),
  "circle_anchor__pml": labeled_loss("circle", margin="m", scale="gamma", over="not 0"),
  "multi_similarity": multi_similarity(),
  "multi_similarity__confusezius": multi_similarity(over="not 0"),
  "multi_similarity_nomine": multi_similarity(margin=None),
  "nca": neighbors,
  "proxynca": with_proxies(
    "proxy_nca", temperature=lambda p: 1 / p.softmax_scale, own_in_denominator=lambda p: True
  ),
  "proxynca_excl": with_proxies("proxy_nca", temperature=lambda p: 1 / 9),
  "arcface": MARGIN,
  "cosface": COSINE_MARGIN,
  "spectral": spectral,
  "cacr": cacr,
  "mv_infonce": on_views("mv_info_nce"),
  "mv_dhel": on_views("mv_dhel"),
  "mv_dhel_avg": dhel_of_the_rest,
  "mv_dhel_pwe": dhel_of_pairs,
  "dhel": lambda x, p, score: losses.dhel(x.z[0], x.z[1], temperature=p.tau).mean(),
  "symile": symile,
  "simco": simco,
  "groco": groco,
  "rince_robust": rince,
  "barlow_twins": barlow_twins(),
  "barlow_twins__tf_similarity": barlow_twins(eps=0.0),
  "barlow_twins__solo_learn_scaled": times(0.025, barlow_twins()),
  "vicreg": vicreg(),
  "vicreg_sumvar": vicreg(variances=2),
  "wmse": lambda x, p, score: losses.w_mse(*two_sets(x), shrinkage=p.eps).mean(),
  "koleo": lambda x, p, score: losses.koleo(*vectors_of(x)).mean(),
  "koleo__spreadingvectors_official": lambda x, p, score: (
    losses.koleo(x.x).mean() - jnp.log(len(x.x))
  ),
  "byol": lambda x, p, score: 2 + 2 * both_gradients(x, p, score),
  "simsiam": both_gradients,
  "simsiam_sym": simsiam_both,
  "swav": swav,
  "dino": dino,
  "dino_sum": times(2, dino),
  "alignment": lambda x, p, score: evaluation.alignment(x.z1, x.z2, alpha=p.alpha),
  "uniformity": lambda x, p, score: evaluation.uniformity(x.x, t=p.t),
  "align_uniform": align_and_uniform,
  "hypersphere": align_and_uniform,
  "effective_rank": lambda x, p, score: evaluation.effective_rank(x.a),
}
"""Of a LOSS, or of a LOSS__IMPLEMENTATION that differs from the others of its loss."""

SCORES = {
  **dict.fromkeys(
    words("""ntxent__debiased_repo_biased ntxent__hcl_easy ntxent__htdt_nonorm ntxent__lightning_bolts
    ntxent__selfclean_dot ntxent__supcontrast_official ntxent__supcontrast_official_base07
    ntxent_sum2__google_simclr_tf2_nonorm infonce_refposneg__cebra_cosine moco_queue__solo_learn
    moco_queue__sslsv moco_queue__vissl moco_queue__mmpretrain ressl__solo_learn dcl__raminnakhli debiased__official
    debiased__hcl_beta0 hcl__official_hard supcon__official_1view supcon__official_1view_base07
    supcon_2view__official_all supcon_2view__official_all_base07 supcon_2view__official_one
    clip__open_clip clip__transformers clip__isogclr_repo clip_distill__open_clip
    pairwise_clip3__symile_repo siglip__open_clip
    alignment__official uniformity__official align_uniform__official cacr__official_small
    symile__pypi symile__experiments simco__official rince_robust__official_simclr
    multi_similarity__official multi_similarity__confusezius"""),
    dot(),
  ),
  "infonce_refposneg__cebra_euclidean": negative_squared_distance(),
}
"""The score of those that do not normalize. If it is the dot product and all vectors are unit
vectors, the loss on arrays is compared as well, to what remains of the gradient."""

ON_ARRAYS_ONLY = words("""
  siglip__open_clip alignment__official uniformity__official align_uniform__official
  cacr__official_small symile__pypi symile__experiments simco__official
  rince_robust__official_simclr multi_similarity__official multi_similarity__confusezius
""")
"""Do not normalize, and there is nothing on groups."""

# What is left out, and why: losses, implementations, and single cases.

NO_SUCH_LOSS = words("""
  adaptive_layer_2dmse albef_ita amcl angle angular barlow_twins_hsic barlow_twins_unbiased
  batch_independent_sgd_ntx beclr beclr_opta cacr_rbf care circle_global circle_softmax
  circle_tfsim cmcl_1tok coca contrastive_cosmargin contrastive_margin cosent cyclip
  dystress fastclip_logspace fastclip_v0v1 fastclip_v2_individual fastclip_v3 gist gor
  imix_byol isogclr_bi isogclr_uni isogclr_uni_v2_sqh kcl lifted lifted_generalized macl
  mmcl_inv mmcr mv_cl1 mv_cl2 ncl normsoftmax npairs_labels pairwise_cosface
  polyview_arithmetic proxy_anchor relic rince_robust_moco soft_nearest_neighbor_cos sogclr_bi
  sogclr_bi_globaltau sogclr_bi_logspace sogclr_uni supcon_in_ratio swav_joint synco
  tau_simclr_uncertainty tcl_ita tico triplet_explicit triplet_explicit_cosine
  triplet_explicit_manhattan triplet_explicit_soft triplet_explicit_sq triplet_explicit_swap
  triplet_labels_all_smooth triplet_labels_all_swap triplet_labels_batchhard_soft
  triplet_labels_semihard_sq triplet_labels_weighted vicreg_tfsim xbm
""")
NO_LOSS = words("""
  cka cluster_indices hard_negative_filter isoscore ncl_metrics rankme symile_zeroshot_logits
  temperature_schedule_cos wasserstein_uniformity weighted_knn
""")
LEFT_OUT = {
  **dict.fromkeys(NO_SUCH_LOSS, "contrastax has no such loss yet"),
  **dict.fromkeys(NO_LOSS, "no loss, but a measure, a rule or a schedule"),
  "clusterns": "its hard negatives are compared in test_clusters.py; the margin loss is none of ours",
  "dclr": "its noise is compared in test_adversarial.py; its loss keeps e^0 for what it drops",
  "supcon__guillaume_erhard": "adds 1e-5 to every exponential",
  "dclw__raminnakhli": "its weights carry gradient",
  "hcl__pygcl_repo": "weighs whole rows by their sums, not pairs",
  "triplet_labels_all__pml_meanreducer": "averages over all triplets, not the violating ones",
  "triplet_labels_all__sentence_transformers_cos": "another distance",
  "triplet_labels_batchhard__sentence_transformers_cos": "another distance",
  "triplet_labels_batchhard__fastreid_cos": "another distance",
  "triplet_labels_semihard__sentence_transformers_cos": "another distance",
  "triplet_labels_semihard__pml": "takes every semi-hard negative, not the nearest",
  "soft_nearest_neighbor": "adds 1e-9 or 1e-5 under the logarithm",
  "proxynca__dichotomies": "scales proxies and vectors differently, and smooths labels",
  "arcface__fastreid": "has no second case for wide angles",
  "arcface__confusezius": "raises negative cosines to 0",
  "simco__isogclr_repo": "takes the logarithm at temperature 1",
  "cacr__official_imagenet": "another cost, another sum and detached weights",
}


def largest_square(x):
  return max((z**2).sum(1).max() for z in vectors_of(x))


def vectors_of(x):
  return [z for z in vars(x).values() if z.ndim == 2 and z.shape[1] > 1]


def all_unit(x):
  return all(np.allclose((z**2).sum(1), 1, rtol=0, atol=1e-12) for z in vectors_of(x))


def underflows(p, x):
  z = np.concatenate(vectors_of(x))
  logits = z @ z.T / p.temperature
  others = np.where(np.eye(len(z)), -np.inf, logits).max(1)
  return (logits.max(1) - others > 700).any()


def a_loss_is_0_to_rounding(p, x):
  """An anchor's one positive is nearer than anything else by 25 temperatures."""
  z, label = labeled_of(x)
  z = z / np.linalg.norm(z, axis=1, keepdims=True)
  logits = np.where(np.eye(len(z)), -np.inf, z @ z.T / p.temperature)
  same = (label[:, None] == label) & ~np.eye(len(z), dtype=bool)
  nearest_other = np.where(same, -np.inf, logits).max(1)
  return ((same.sum(1) == 1) & (np.where(same, logits, -np.inf).max(1) > nearest_other + 25)).any()


NOT_UNIT = "does not normalize, as ours does, and these are not unit vectors"
DROPS = "drops anchors whose loss is 0 to rounding from the mean"
LEAKS = "masks a vector itself by −103 only, and its own logit is above 60"
UNDERFLOWS = "subtracts a row's maximum, the vector itself: e^−700 and less is left of the others"
EQUAL = "equal vectors: adds to their distance, or halves no gradient among them"
LOOSER = {
  "koleo": (1e-6, "adds 1e-8 to a distance and its entries"),
  "koleo__spreadingvectors_official": (1e-5, "adds 1e-6 to a distance's entries"),
  "npairs": (1e-7, "has targets of float32"),
}
"""Compared to fewer digits than float64 has, and why."""


def two_are_equal(p, x):
  (z,) = vectors_of(x)
  return len(np.unique(z, axis=0)) < len(z)


def at_the_limit(p, x):
  lengths = np.concatenate([np.linalg.norm(z, axis=1) for z in vectors_of(x)])
  return np.isclose(lengths, p.mu**0.5, rtol=1e-12, atol=0).any()


MEAN_OF_ALL = words("sentence_transformers_euc fastreid_euc open_reid")
CASES_LEFT_OUT = (
  *((file, underflows, UNDERFLOWS) for file in SCORES if "official" in file and "supcon" in file),
  *((file, lambda p, x: not all_unit(x), NOT_UNIT) for file in ON_ARRAYS_ONLY),
  *((f"triplet_labels_batchhard__{code}", lambda p, x: (others_of_its_class(x.y) == 0).any(),
     "an anchor without a positive counts, at distance 0") for code in MEAN_OF_ALL),
  *((file, two_are_equal, EQUAL) for file in words("koleo triplet_labels_batchhard__fastreid_euc "
    "triplet_labels_batchhard__open_reid triplet_labels_semihard")),
  ("spectral", at_the_limit, "a vector as long as the limit, which rounding puts on either side"),
  ("cacr", lambda p, x: (p.alpha, p.beta, p.choice, p.with_debiased) != (1, 1, "full", False),
   "an ablation, or the terms' own factors"),
  ("dhel", lambda p, x: not p.include_augs, "leaves one view's energy out"),
  ("avg_infonce", lambda p, x: p.V > 2, "does not normalize the mean of the other views again"),
  ("dcl__raminnakhli", lambda p, x: largest_square(x) / p.temperature > 60, LEAKS),
  ("dcl__raminnakhli_sym", lambda p, x: 1 / p.temperature > 60, LEAKS),
  ("debiased__pygcl_repo", lambda p, x: p.temperature < 0.05,
   "takes a vector itself away from the sum by subtraction, of e^100 at temperature 0.01"),
  ("supcon__pml", a_loss_is_0_to_rounding, DROPS),
  ("supcon_2view__pml", a_loss_is_0_to_rounding, DROPS),
  ("dialog2flow_soft", lambda p, x: p.use_abs, "takes absolute values of its labels' cosines"),
  ("clip__isogclr_repo", lambda p, x: getattr(p, "tau_shape", "").startswith("[N] "),
   "divides by the candidate's temperature, not the anchor's"),
  ("mnrl", lambda p, x: hasattr(p, "hardness_mode"), "adds its similarity to a negative's logit"),
  ("mnrl", lambda p, x: getattr(p, "partition", "") == "joint" and len(p.directions) > 1,
   "one softmax over the pairs of several anchors"),
)  # fmt: skip
