"""What each method's compiled step is held against: optax's equivalent, and what it must read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, NamedTuple

import jax.numpy as jnp
import optax

import clipax
from clipax import norms
from clipax.catalogue import ENTRIES, Entry

RATE = 1e-3
OURS = "clipax's clip"
_CLIP, _BLOCK, _AGC = "clip_by_global_norm", "clip_by_block_rms", "adaptive_grad_clip"


def _sgd(*before: Any, **options: Any) -> Any:
    return optax.chain(*before, optax.sgd(RATE, **options))


def _momentum(*before: Any) -> Any:
    # clipax's momentum of bfloat16 gradients is in float32 too.
    return _sgd(*before, momentum=0.9, accumulator_dtype=jnp.float32)


def _clip() -> Any:
    return optax.clip_by_global_norm(1.0)


def _average(*behind: Any) -> Any:
    return optax.chain(optax.ema(0.9, debias=False, accumulator_dtype=jnp.float32), *behind)


PEERS: Mapping[str, Callable[[], Any]] = {
    "sgd": _sgd,
    "sgd, momentum": _momentum,
    _CLIP: lambda: _sgd(_clip()),
    _BLOCK: lambda: _sgd(optax.clip_by_block_rms(1.0)),
    _AGC: lambda: _sgd(optax.adaptive_grad_clip(0.5)),
    "clip": lambda: _sgd(optax.clip(0.5)),
    "normalize_by_update_norm": lambda: _sgd(optax.normalize_by_update_norm()),
    "apply_if_finite(adam)": lambda: optax.apply_if_finite(optax.adam(RATE), 10),
    "clip, momentum": lambda: _momentum(_clip()),
    "clip, adagrad": lambda: optax.chain(_clip(), optax.adagrad(RATE)),
    "clip, adam": lambda: optax.chain(_clip(), optax.adam(RATE)),
    "clip, clip, adam": lambda: optax.chain(_clip(), _clip(), optax.adam(RATE)),
    "ema, clip": lambda: _sgd(_average(_clip())),
    "ema, normalize": lambda: _sgd(_average(optax.normalize_by_update_norm())),
    "clip, ema, normalize": lambda: _sgd(_clip(), _average(optax.normalize_by_update_norm())),
    "adam, clip_by_block_rms": lambda: optax.chain(
        optax.scale_by_adam(), optax.clip_by_block_rms(1.0), optax.add_decayed_weights(1e-4), _sgd()
    ),
    OURS: lambda: _sgd(clipax.clip_by_global_norm(1.0)),
}
"""Steps of optax's that do what a method's does, by name; most end in SGD."""


class Compared(NamedTuple):
    """A method's step and what it is held against.

    Attributes:
      ours: The optimizer.
      peer: A name of `PEERS`, or "".
      reads: What it may read beside what every optimizer with its memory does, in P: 1 for a norm
        of the gradient; None where the peer alone tells.
      again: The share of its memory that it reads once more, to measure it.
      more: Kernels that it may have more on one array.
      more_on_trees: Whether on trees too.
      branches: Whether a decomposition of each matrix stands in a branch; on a TPU it compiles for
        more than a quarter of an hour.
    """

    ours: Any
    peer: str
    reads: float | None = 1
    again: float = 0
    more: int = 2
    more_on_trees: bool = False
    branches: bool = False


_METHODS: dict[str, tuple[str, float | None] | tuple[str, float | None, float]] = {
    "thresholds.relative": (_AGC, 2),
    "clip_by_block_rms": (_BLOCK, 1),
    "clip_by_group_norm": (_BLOCK, 1),
    "clip_by_leaf_norm": (_BLOCK, 1),
    "clip_by_param_norm": (_AGC, 2),
    "clip_by_value": ("clip", 0),
    "delay_updates": ("sgd, momentum", None),
    "normalize_by_global_norm": ("normalize_by_update_norm", 1),
    "scale_by_adam_norm": ("clip, momentum", 1),
    "scale_by_norm": ("clip, momentum", 1),
    "skip_nonfinite": ("apply_if_finite(adam)", 1),
    "skip_spikes": ("apply_if_finite(adam)", 1),
    # The change of the gradient is measured: both are read again.
    "with_error_feedback": ("clip, momentum", 1, 1),
    "acclip": ("clip, adam", 1),
    "clip_adagrad": ("clip, adagrad", 1),
    "clip_adam": ("clip, adam", 1),
    "clip_adam_norm": ("clip, momentum", 1),
    # The norms of the gradient and of the new momentum, before either is written: a step that does
    # not count leaves no trace.
    "clip_normalized_momentum": ("clip, ema, normalize", 2, 1),
    "clipped_sstm": ("clip, adam", 1),
    "ggnc": ("ema, clip", 1, 1),
    "mixed_clip_sgd": ("clip, ema, normalize", 2, 1),
    "momentum_clip_sgd": ("ema, clip", 1, 1),
    "normalized_momentum": ("ema, normalize", 1, 1),
    "normalized_sgd": ("normalize_by_update_norm", 1),
    "spam": ("clip, adam", 1),
    # The update is measured where it is computed from the gradient and both averages.
    "stable_adamw": ("adam, clip_by_block_rms", 1, 0.5),
    # The largest entry, then the norm of what it leaves.
    "stable_spam": ("clip, clip, adam", 2),
}
"""Peer, reads and memory read again of the methods that are no clip by one norm of the gradient."""

_REMEMBERS, _SCALES_TOO, _WINDOW, _TWO_NORMS = 4, 6, 11, 7
_MORE: dict[str, int] = {
    # Two kernels for a rule or a threshold with memory, or a chain of any length.
    **dict.fromkeys(("anytime", "ema", "geometric_quantile", "power", "zscore"), _REMEMBERS),
    **dict.fromkeys(("rms_of_norms", "adagrad_norm", "adam_norm", "rms_clip"), _REMEMBERS),
    **dict.fromkeys(("clip_by_ema", "clip_by_zscore", "clip_by_group_norm"), _REMEMBERS),
    **dict.fromkeys(("monitor_norms", "skip_spikes", "band", "stabilize"), _REMEMBERS),
    # A factor for the update besides, or a momentum.
    **dict.fromkeys(("scale_by_adagrad_norm", "scale_by_adam_norm", "scale_by_norm"), _SCALES_TOO),
    **dict.fromkeys(("clip_adagrad_norm", "clip_adam_norm", "clip_radagrad_norm"), _SCALES_TOO),
    "clipped_sstm": _SCALES_TOO,
    "with_error_feedback": _SCALES_TOO + 2,  # its own guard
    # Passes over a window or a histogram of norms.
    **dict.fromkeys(("max_ccc", "median", "percentile", "quantile", "tail_power"), _WINDOW),
    "deviation": _WINDOW,
    **dict.fromkeys(("clip_by_median", "clip_by_percentile", "clip_by_quantile"), _WINDOW),
    **dict.fromkeys(("max_ccc_clip", "max_ccc_sgd", "quantile_clip_sgd"), _WINDOW),
    "clip_by_leaf_norm, by a quantile": _WINDOW,
    # Two measurements with records of their own.
    **dict.fromkeys(("clip_normalized_momentum", "ggnc", "mixed_clip_sgd"), _TWO_NORMS),
    **dict.fromkeys(("momentum_clip_sgd", "normalized_momentum", "stable_adamw"), _TWO_NORMS),
    "stable_spam": 2 * _TWO_NORMS,
    # Records of units.
    **dict.fromkeys(("relative", "clip_by_param_norm"), 5),
}
"""Kernels of a GPU beside the peer's on one array, where two do not suffice."""

_COUNT = {"clip_by_value", "delay_updates", "skip_nonfinite", "skip_spikes"}
"""Methods that measure no norm, and so save no kernel on trees, but count steps."""


@cache
def list_compared() -> Mapping[str, Compared]:
    """Lists every method of the catalogue, all but optimizers before SGD, and some forms more."""
    found = {name: _compare(entry) for name, entry in ENTRIES.items()}
    found |= _spectral()
    links = norms.clip(1.0), norms.clip(0.5, response="sqrt"), norms.adagrad_norm(0.5)
    chain = clipax.scale_by_norm(norms.chain(*links))
    found["a chain of three"] = Compared(_sgd(chain), OURS, more_on_trees=True)
    found["clip_by_global_norm, adam"] = Compared(
        optax.chain(clipax.clip_by_global_norm(1.0), optax.adam(RATE)), "clip, adam"
    )
    found["clip_by_leaf_norm, by a quantile"] = Compared(
        _sgd(clipax.clip_by_quantile(0.75, window=30, scope="leaf")), _BLOCK
    )
    return {
        name: one._replace(
            more=_MORE.get(name.split(".")[-1], one.more),
            more_on_trees=one.more_on_trees or name in _COUNT,
        )
        for name, one in found.items()
    }


def _compare(entry: Entry) -> Compared:
    peer, reads, again = (*_METHODS.get(entry.name, (_CLIP, 1)), 0)[:3]
    made = entry.factory(**entry.example)
    if entry.kind == "threshold":
        made = clipax.clip_by_global_norm(made)
    elif entry.kind == "norm":
        made = clipax.scale_by_norm(made)
    alone = entry.kind == "optimizer" or entry.name.startswith("skip")
    return Compared(made if alone else _sgd(made), peer, reads, again)


def _spectral() -> dict[str, Compared]:
    def clip(method: Any) -> Any:
        return _sgd(clipax.clip_by_singular_values(1.0, method=method))

    def direction(method: Any) -> Any:
        return clipax.ggnc(RATE, 1.0, norm="spectral", method=method)

    return {
        "clip_by_singular_values": Compared(clip("polar"), "", None),
        "clip_by_singular_values, svd": Compared(clip("svd"), "", None, branches=True),
        "ggnc, spectral": Compared(direction("polar"), "", None),
        "ggnc, spectral, svd": Compared(direction("svd"), "", None, branches=True),
    }
