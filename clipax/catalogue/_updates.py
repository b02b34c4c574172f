"""Entries of what clips updates, or single entries of gradients, by their own scales."""

from __future__ import annotations

from clipax import optimizers, transforms
from clipax.catalogue._entry import DIES, entry

__all__ = ["ENTRIES"]

ENTRIES = (
    entry(
        "clip_by_block_rms",
        transforms.clip_by_block_rms,
        "transformation",
        "u_i = g_i/max(1, rms(g_i)/d) for each leaf i",
        ("Shazeer & Stern 2018", "1804.04235"),
        {"threshold": 1.0},
        static_args=("scope",),
    ),
    entry(
        "stable_adamw",
        optimizers.stable_adamw,
        "optimizer",
        "x <- x - eta/max(1, rms(g/max(s, eps))) m/(s + eps) for each leaf, "
        "m and s^2 averages of g and g^2",
        ("Wortsman et al. 2023", "2304.13013"),
        {"learning_rate": 0.1},
        verdict=DIES,
    ),
    entry(
        "spam",
        optimizers.spam,
        "optimizer",
        "g' = sign(g) min(|g|, sqrt(theta v)), Adam on g', m and v reset every so many steps",
        ("Huang et al. 2025", "2501.06842"),
        {"learning_rate": 0.1, "theta": 50.0, "reset": 9, "warmup": 4, "clip_from": 2},
        static_args=("reset", "warmup", "clip_from"),
    ),
    entry(
        "stable_spam",
        optimizers.stable_spam,
        "optimizer",
        "g' = g with entries above T = ema(max |g|) rescaled to it, "
        "g'' = g'/n' ema(n')/sqrt(ema(n'^2)), Adam on g'', reset every so many steps",
        ("Huang et al. 2025", "2502.17055"),
        {"learning_rate": 0.1, "peak_decay": 0.9, "reset": 9},
        static_args=("reset",),
        # The average of the largest entries takes in what it does not clip.
        verdict=DIES,
    ),
)
