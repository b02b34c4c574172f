"""Independent references: float64 NumPy loops written from the formulas of the papers.

``ORACLES`` maps the name of a catalogue entry to its oracle. A threshold is used by a clip of the
global norm, and a decision on norms by ``scale_by_norm``, so that every oracle has one shape:
``oracle(gradients, params, **keywords)`` gives the update of each step.
"""

from __future__ import annotations

import functools

from tests.oracles import autoclip_2020 as autoclip
from tests.oracles import brock_2021 as brock
from tests.oracles import chezhegov_2025 as chezhegov
from tests.oracles import chezhegov_2025_coordinate as coordinate
from tests.oracles import cutkosky_mehta_2021 as cutkosky_mehta
from tests.oracles import gorbunov_2020 as gorbunov
from tests.oracles import huang_2025 as huang
from tests.oracles import kumar_2025 as kumar
from tests.oracles import mai_johansson_2021 as mai_johansson
from tests.oracles import marshall_2025 as marshall
from tests.oracles import norm_histogram, wrappers
from tests.oracles import quantile_thresholds as quantiles
from tests.oracles import shazeer_stern_2018 as shazeer_stern
from tests.oracles import theorem_thresholds as theorems
from tests.oracles import tucat_mukherjee_2025 as tucat_mukherjee
from tests.oracles import wang_2025 as wang
from tests.oracles import wortsman_2023 as wortsman
from tests.oracles import yao_2024 as yao
from tests.oracles import zhang_2020_attention as attention
from tests.oracles import zhang_he_sra_jadbabaie_2020 as zhang
from tests.oracles import zhang_jin_fang_wang_2020 as mixed
from tests.oracles._tree import Oracle, Tree, Updates
from tests.oracles.jiang_2026 import clip_by_singular_values
from tests.oracles.khirirat_2023 import with_error_feedback
from tests.oracles.pethick_2025 import ggnc
from tests.oracles.power_threshold import power
from tests.oracles.rules import scale_by_norm

__all__ = ["ORACLES", "Oracle", "Tree", "Updates"]

ORACLES: dict[str, Oracle] = {
    "thresholds.power": power,
    "thresholds.quantile": quantiles.quantile,
    "thresholds.geometric_quantile": quantiles.geometric_quantile,
    "thresholds.rms_of_norms": marshall.rms,
    "thresholds.max_ccc": marshall.max_ccc,
    "thresholds.anytime": theorems.anytime,
    "thresholds.fixed_horizon": theorems.fixed_horizon,
    "thresholds.zscore": kumar.zscore,
    "thresholds.ema": wang.ema,
    "thresholds.median": yao.median,
    "thresholds.relative": brock.relative,
    "clip_by_zscore": kumar.zscore,
    "clip_by_ema": wang.clip_by_ema,
    "clip_by_median": yao.median,
    "clip_by_param_norm": brock.clip_by_param_norm,
    "thresholds.percentile": autoclip.percentile,
    "thresholds.tail_power": norm_histogram.tail_power,
    "quantile_clip_sgd": quantiles.quantile_clip_sgd,
    "max_ccc_sgd": marshall.max_ccc_sgd,
    "norms.clip": lambda gradients, params, threshold: zhang.clip_by_global_norm(
        gradients, params, max_norm=threshold
    ),
    "norms.smooth": mai_johansson.clip_by_smooth_norm,
    "norms.regularized": tucat_mukherjee.clip_by_regularized_norm,
    "norms.normalize": zhang.normalize_by_global_norm,
    "norms.adagrad_norm": chezhegov.scale_by_adagrad_norm,
    "norms.adam_norm": functools.partial(chezhegov.scale_by_adam_norm, b1=None),
    "clip_by_global_norm": zhang.clip_by_global_norm,
    "clip_by_leaf_norm": zhang.clip_by_leaf_norm,
    "clip_by_group_norm": zhang.clip_by_group_norm,
    "clip_by_value": mai_johansson.clip_by_value,
    "clip_by_smooth_norm": mai_johansson.clip_by_smooth_norm,
    "clip_by_regularized_norm": tucat_mukherjee.clip_by_regularized_norm,
    "clip_by_percentile": autoclip.percentile,
    "monitor_norms": norm_histogram.monitor_norms,
    "normalize_by_global_norm": zhang.normalize_by_global_norm,
    "scale_by_adagrad_norm": chezhegov.scale_by_adagrad_norm,
    "scale_by_adam_norm": chezhegov.scale_by_adam_norm,
    "scale_by_norm": scale_by_norm,
    "delay_updates": wrappers.delay_updates,
    "skip_nonfinite": wrappers.skip_nonfinite,
    "skip_spikes": wrappers.skip_spikes,
    "clip_sgd": zhang.clip_sgd,
    "normalized_sgd": zhang.normalized_sgd,
    "regularized_clip_sgd": tucat_mukherjee.regularized_clip_sgd,
    "clip_adagrad_norm": chezhegov.clip_adagrad_norm,
    "clip_adam_norm": chezhegov.clip_adam_norm,
    "clip_radagrad_norm": chezhegov.clip_radagrad_norm,
    "clip_adagrad": coordinate.clip_adagrad,
    "clip_adam": coordinate.clip_adam,
    "mixed_clip_sgd": mixed.mixed_clip_sgd,
    "momentum_clip_sgd": mixed.momentum_clip_sgd,
    "clip_normalized_momentum": cutkosky_mehta.clip_normalized_momentum,
    "normalized_momentum": cutkosky_mehta.normalized_momentum,
    "clipped_sstm": gorbunov.clipped_sstm,
    "acclip": attention.acclip,
    "clip_by_block_rms": shazeer_stern.clip_by_block_rms,
    "stable_adamw": wortsman.stable_adamw,
    "spam": huang.spam,
    "stable_spam": huang.stable_spam,
    "clip_by_singular_values": clip_by_singular_values,
    "with_error_feedback": with_error_feedback,
    "ggnc": ggnc,
}
