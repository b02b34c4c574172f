"""Names that clipax does not have, and what stands for them here."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["ARGUMENTS", "TWINS", "describe_missing", "list_usual_names"]

TWINS = {
    # optax's.
    "adaptive_grad_clip": "clip_by_param_norm",
    "apply_if_finite": "skip_nonfinite",
    "clip": "clip_by_value",
    "differentially_private_aggregate": "clipped_grad",
    "normalize_by_update_norm": "normalize_by_global_norm",
    "per_example_global_norm_clip": "clipped_grad",
    "per_example_layer_norm_clip": "clipped_grad",
    "unitwise_clip": "clip_by_param_norm",
    "skip_large_updates": "skip_spikes",
    "skip_not_finite": "skip_nonfinite",
    # PyTorch's, TensorFlow's and Keras's.
    "clip_grad_norm": "clip_by_global_norm",
    "clip_grad_norm_": "clip_by_global_norm",
    "clip_grad_value": "clip_by_value",
    "clip_grad_value_": "clip_by_value",
    "clip_by_norm": "clip_by_leaf_norm",
    "clip_gradients": "clip_by_global_norm",
    "clipnorm": "clip_by_leaf_norm",
    "clipvalue": "clip_by_value",
    "l_infinity": "clip_by_lp_norm",
    "linf": "clip_by_lp_norm",
    "global_clipnorm": "clip_by_global_norm",
    # Of trainers: OLMo-core, Levanter, MaxText.
    "skip_step": "skip_spikes",
    "skip_step_on_spikes": "skip_spikes",
    "skipstepoptimizer": "skip_spikes",
    # Methods by the names of their papers.
    "adagc": "clip_by_ema",
    "adanorm": "norms.band",
    "agc": "clip_by_param_norm",
    "aggc": "norms.band",
    "auto_s": "clipped_grad",
    "auto_v": "clipped_grad",
    "autoclip": "clip_by_percentile",
    "automatic_clipping": "clipped_grad",
    "centered_clipping": "with_error_feedback",
    "clip21": "with_error_feedback",
    "clip21_sgd2m": "with_error_feedback",
    "delta_gclip": "regularized_clip_sgd",
    "gradientstabilizer": "norms.stabilize",
    "ps_clip_sgd": "clipped_grad",
    "psac": "clipped_grad",
    "uclip": "with_error_feedback",
    "zclip": "clip_by_zscore",
}
"""The name in `clipax` that does what a function of optax, PyTorch or a paper does."""


ARGUMENTS = {
    "adanorm": 'low=1.0, high=float("inf")',
    "aggc": "low=0.9, high=1.5",
    "auto_s": 'response="normalize"',
    "auto_v": 'response="normalize", eps=0.0',
    "automatic_clipping": 'response="normalize"',
    "clip21_sgd2m": "b1=0.9",
    "differentially_private_aggregate": "noise_multiplier=...",
    "l_infinity": 'ord=float("inf")',
    "linf": 'ord=float("inf")',
    "per_example_layer_norm_clip": 'scope="leaf"',
    "ps_clip_sgd": "threshold=thresholds.power(...)",
    "psac": 'response="psac"',
    "uclip": 'memory="buffer"',
}
"""What to give a function so that it does what has this name elsewhere."""


def list_usual_names(name: str) -> dict[str, str]:
    """Return what a method is called elsewhere, with the arguments that it takes, or none."""
    return {usual: ARGUMENTS.get(usual, "") for usual, twin in TWINS.items() if twin == name}


def describe_missing(name: str, known: Iterable[str]) -> str:
    """Say that a name is missing, and which one is meant."""
    text = f"module 'clipax' has no attribute {name!r}."
    if twin := TWINS.get(name.lower()):
        arguments = ARGUMENTS.get(name.lower())
        call = f"{twin}(..., {arguments})" if arguments else twin
        return f"{text} `clipax.{call}` does that here."
    if close := difflib.get_close_matches(name, known, n=1, cutoff=0.85):
        return f"{text} Do you mean `clipax.{close[0]}`?"
    return text
