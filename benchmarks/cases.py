"""The programs under test: for each method the unclipped optimizer, the equivalent, and clipax."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import optax
from optax import GradientTransformation as Transformation

import clipax
from benchmarks import reference
from clipax import norms, thresholds

__all__ = ["BARE", "CASES", "CLIPAX", "PEER", "Case"]

RATE = 1e-3

# Roles of the programs that every case has; others are the case's own.
BARE = "unclipped"
PEER = "peer"
CLIPAX = "clipax"


@dataclass(frozen=True)
class Case:
    """Programs that are timed in turn on the same tree.

    Attributes:
      summary: What is compared.
      peer: What the program with the role `"peer"` is: optax's equivalent, or the plain reference.
      programs: Factories of optimizers by role; the first is the one without clipping.
      zero_leaves: Roles that get a gradient with leaves that are exactly zero.
      trees: The trees on which the case runs unless it is asked for by name.
    """

    summary: str
    peer: str
    programs: Mapping[str, Callable[[], Transformation]]
    zero_leaves: frozenset[str] = frozenset()
    trees: tuple[str, ...] = ("leaf", "transformer")


def _sgd(*first: Transformation) -> Transformation:
    return optax.chain(*first, optax.sgd(RATE))


def _adam(*first: Transformation) -> Transformation:
    return optax.chain(*first, optax.adam(RATE))


def _lean(guard: bool, telemetry: bool) -> Callable[[], Transformation]:
    return lambda: _sgd(reference.lean_clip(1.0, guard=guard, telemetry=telemetry))


def _norm_chain(length: int) -> Callable[[], Transformation]:
    links = [
        norms.clip(1.0),
        norms.smooth(1.0),
        norms.regularized(0.5, 0.1),
        norms.adagrad_norm(1.0),
    ]
    return lambda: _sgd(clipax.scale_by_norm(norms.chain(*links[:length])))


CASES: dict[str, Case] = {
    "sgd": Case(
        "clip by global norm, then SGD",
        "optax.clip_by_global_norm",
        {
            BARE: _sgd,
            PEER: lambda: _sgd(optax.clip_by_global_norm(1.0)),
            CLIPAX: lambda: _sgd(clipax.clip_by_global_norm(1.0)),
        },
        trees=("leaf", "transformer", "many"),
    ),
    "adam": Case(
        "clip by global norm, then Adam",
        "optax.clip_by_global_norm",
        {
            BARE: _adam,
            PEER: lambda: _adam(optax.clip_by_global_norm(1.0)),
            CLIPAX: lambda: _adam(clipax.clip_by_global_norm(1.0)),
        },
        trees=("leaf", "transformer", "many"),
    ),
    "adagrad-norm": Case(
        "clip, then AdaGrad-Norm, then the learning rate",
        "the two as ordinary transformations (reference.py)",
        {
            BARE: _sgd,
            PEER: lambda: _sgd(
                reference.clip_by_global_norm(1.0), reference.scale_by_adagrad_norm(1.0)
            ),
            CLIPAX: lambda: _sgd(
                clipax.scale_by_norm(norms.clip(1.0), after=norms.adagrad_norm(1.0))
            ),
            "two clipax links": lambda: _sgd(
                clipax.clip_by_global_norm(1.0), clipax.scale_by_adagrad_norm(b_init=1.0)
            ),
        },
    ),
    "chain": Case(
        "chains of 1, 2 and 4 transformations of norms",
        "clip, then normalise as ordinary transformations (reference.py)",
        {
            BARE: _sgd,
            PEER: lambda: _sgd(
                reference.clip_by_global_norm(1.0), reference.normalize_by_global_norm(1e-3)
            ),
            CLIPAX: _norm_chain(2),
            "clipax, 1 link": _norm_chain(1),
            "clipax, 4 links": _norm_chain(4),
        },
    ),
    "guard": Case(
        "what the overflow guard and the telemetry cost, clip then SGD",
        "the lean clip without either (reference.py)",
        {
            BARE: _sgd,
            PEER: _lean(guard=False, telemetry=False),
            CLIPAX: lambda: _sgd(clipax.clip_by_global_norm(1.0)),
            "lean, guard": _lean(guard=True, telemetry=False),
            "lean, telemetry": _lean(guard=False, telemetry=True),
            "clipax, zero leaves": lambda: _sgd(clipax.clip_by_global_norm(1.0)),
        },
        zero_leaves=frozenset({"clipax, zero leaves"}),
    ),
    "leaf-norm": Case(
        "clip each leaf by its own norm, then SGD",
        "optax.clip_by_block_rms",
        {
            BARE: _sgd,
            PEER: lambda: _sgd(optax.clip_by_block_rms(1e-3)),
            CLIPAX: lambda: _sgd(clipax.clip_by_leaf_norm(1.0)),
        },
    ),
    "agc": Case(
        "clip each unit relative to its parameters (AGC), then SGD",
        "optax.adaptive_grad_clip",
        {
            BARE: _sgd,
            PEER: lambda: _sgd(optax.adaptive_grad_clip(0.01)),
            CLIPAX: lambda: _sgd(clipax.clip_by_param_norm(0.01)),
        },
    ),
    "block-rms": Case(
        "clip each leaf by the root mean square of its entries, then SGD",
        "optax.clip_by_block_rms",
        {
            BARE: _sgd,
            PEER: lambda: _sgd(optax.clip_by_block_rms(1e-3)),
            CLIPAX: lambda: _sgd(clipax.clip_by_block_rms(1e-3)),
        },
    ),
    "value": Case(
        "clip entry by entry, then SGD",
        "optax.clip",
        {
            BARE: _sgd,
            PEER: lambda: _sgd(optax.clip(1e-3)),
            CLIPAX: lambda: _sgd(clipax.clip_by_value(1e-3)),
        },
    ),
    "normalize": Case(
        "normalise by the global norm, then SGD",
        "optax.normalize_by_update_norm",
        {
            BARE: _sgd,
            PEER: lambda: _sgd(optax.normalize_by_update_norm()),
            CLIPAX: lambda: _sgd(clipax.normalize_by_global_norm(1e-6)),
        },
    ),
    "adam-norm": Case(
        "the optimizer clip_adam_norm (clip, momentum, divisor of norms)",
        "clip and Adam-Norm as ordinary transformations (reference.py)",
        {
            BARE: lambda: optax.sgd(RATE, momentum=0.9),
            PEER: lambda: _sgd(
                reference.clip_by_global_norm(1.0), reference.scale_by_adam_norm(1.0, 0.9, 0.999)
            ),
            CLIPAX: lambda: clipax.clip_adam_norm(RATE, 1.0),
        },
    ),
    "mixed": Case(
        "mixed clipping: momentum and gradient, each cut by its own norm",
        "clip, then moving average (clipax.scale_by_norm)",
        {
            BARE: lambda: optax.chain(optax.ema(0.9, debias=False), optax.sgd(RATE)),
            PEER: lambda: _sgd(clipax.scale_by_norm(norms.clip(1.0), b1=0.9)),
            CLIPAX: lambda: clipax.mixed_clip_sgd(RATE, 1e-3),
            "soft, weight decay": lambda: clipax.mixed_clip_sgd(
                RATE, 1e-3, response="soft", weight_decay=5e-4
            ),
            "momentum clipping": lambda: clipax.momentum_clip_sgd(RATE, 1e-3),
            "clip, normalised momentum": lambda: clipax.clip_normalized_momentum(RATE, 1.0),
        },
    ),
    "clip-adam": Case(
        "the optimizer clip_adam (clip, momentum, a scale for each entry)",
        "optax.adam behind one more read of the gradient (clipax.clip_by_global_norm)",
        {
            BARE: _adam,
            PEER: lambda: _adam(clipax.clip_by_global_norm(1.0)),
            CLIPAX: lambda: clipax.clip_adam(RATE, 1.0),
            "coordinate-wise": lambda: clipax.clip_adam(RATE, 1e-3, clip="coordinate"),
            "leaf by leaf, weight decay": lambda: clipax.clip_adam(
                RATE, 1.0, clip="leaf", weight_decay=0.01
            ),
            "delayed": lambda: clipax.clip_adam(RATE, 1.0, delay=1),
        },
    ),
    "memory": Case(
        "thresholds that remember 1,000 norms, then SGD",
        "a constant threshold (clipax.clip_by_global_norm)",
        {
            BARE: _sgd,
            PEER: lambda: _sgd(clipax.clip_by_global_norm(1.0)),
            CLIPAX: lambda: _sgd(clipax.clip_by_global_norm(thresholds.quantile(0.5, window=1000))),
            "max-CCC": lambda: _sgd(clipax.clip_by_global_norm(thresholds.max_ccc(window=1000))),
            "percentile": lambda: _sgd(clipax.clip_by_percentile(10, window=1000)),
            "z-score": lambda: _sgd(clipax.clip_by_zscore()),
        },
    ),
    "skip": Case(
        "steps with a non-finite gradient left out, Adam",
        "optax.apply_if_finite",
        {
            BARE: _adam,
            PEER: lambda: optax.apply_if_finite(optax.adam(RATE), 5),
            CLIPAX: lambda: clipax.skip_nonfinite(optax.adam(RATE)),
        },
    ),
    "delay": Case(
        "updates 4 steps late, then SGD",
        "a tuple that moves up (reference.py)",
        {
            BARE: _sgd,
            PEER: lambda: _sgd(reference.delay_by_tuple(4)),
            CLIPAX: lambda: _sgd(clipax.delay_updates(4)),
        },
    ),
}
