"""What each method's compiled step is held against: optax's equivalent, and what it must read."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, NamedTuple

import jax.numpy as jnp
import optax

import clipax
from clipax import norms
from clipax.catalogue import ENTRIES, Entry

RATE = 1e-3
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
    "clipax's clip": lambda: _sgd(clipax.clip_by_global_norm(1.0)),
}
"""Steps of optax's that do what a method's does, by name; most end in SGD."""


class Compared(NamedTuple):
    """A method's step and what it is held against.

    Attributes:
      ours: The optimizer.
      peer: A name of `PEERS`, or "".
      reads: What it may read beside what every optimizer with its memory does, in P: 1 for a norm
        of the gradient; None where the peer alone tells.
      more: Kernels that it may have more on one array.
      more_on_trees: Whether on trees too.
      branches: Whether a decomposition of each matrix stands in a branch; on a TPU it compiles for
        more than a quarter of an hour.
    """

    ours: Any
    peer: str
    reads: float | None = 1
    more: int = 2
    more_on_trees: bool = False
    branches: bool = False


_METHODS: dict[str, tuple[str, float | None]] = {
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
    "with_error_feedback": ("clip, momentum", 1),
    "acclip": ("clip, adam", 1),
    "clip_adagrad": ("clip, adagrad", 1),
    "clip_adam": ("clip, adam", 1),
    "clip_adam_norm": ("clip, momentum", 1),
    "clip_normalized_momentum": ("clip, ema, normalize", None),
    "clipped_sstm": ("clip, adam", 1),
    "ggnc": ("ema, clip", None),
    # Two norms, the momentum's and the gradient's.
    "mixed_clip_sgd": ("clip, ema, normalize", 3),
    "momentum_clip_sgd": ("ema, clip", None),
    "normalized_momentum": ("ema, normalize", None),
    "normalized_sgd": ("normalize_by_update_norm", 1),
    "spam": ("clip, adam", 1),
    # The update is measured where it is computed from the gradient and both averages.
    "stable_adamw": ("adam, clip_by_block_rms", 2),
    # The largest entry, then the norm of what it leaves.
    "stable_spam": ("clip, clip, adam", 2),
}
"""Peer and reads of the methods that are no clip by one norm of the gradient."""


@cache
def list_compared() -> Mapping[str, Compared]:
    """Lists every method of the catalogue, all but optimizers before SGD, and some forms more."""
    found = {name: _compare(entry) for name, entry in ENTRIES.items()}
    found |= _spectral()
    links = norms.clip(1.0), norms.clip(0.5, response="sqrt"), norms.adagrad_norm(0.5)
    chain = clipax.scale_by_norm(norms.chain(*links))
    found["a chain of three"] = Compared(_sgd(chain), "clipax's clip", more_on_trees=True)
    found["clip_by_global_norm, adam"] = Compared(
        optax.chain(clipax.clip_by_global_norm(1.0), optax.adam(RATE)), "clip, adam"
    )
    found["clip_by_leaf_norm, by a quantile"] = Compared(
        _sgd(clipax.clip_by_quantile(0.75, window=30, scope="leaf")), _BLOCK
    )
    return found


def _compare(entry: Entry) -> Compared:
    peer, reads = _METHODS.get(entry.name, (_CLIP, 1))
    made = entry.factory(**entry.example)
    if entry.kind == "threshold":
        made = clipax.clip_by_global_norm(made)
    elif entry.kind == "norm":
        made = clipax.scale_by_norm(made)
    alone = entry.kind == "optimizer" or entry.name.startswith("skip")
    return Compared(made if alone else _sgd(made), peer, reads)


def _spectral() -> dict[str, Compared]:
    svd = clipax.clip_by_singular_values(1.0)
    ggnc = clipax.ggnc(RATE, 1.0, norm="spectral")
    found = {
        "clip_by_singular_values": Compared(_sgd(svd), "", None, branches=True),
        "ggnc, spectral": Compared(ggnc, "", None, branches=True),
    }
    if "method" in inspect.signature(clipax.clip_by_singular_values).parameters:
        options: dict[str, Any] = {"method": "polar"}
        polar = clipax.clip_by_singular_values(1.0, **options)
        found["clip_by_singular_values, polar"] = Compared(_sgd(polar), "", None)
    return found
