"""The programs under test: for each method the unclipped optimizer, the equivalent, and clipax."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import optax
from optax import GradientTransformation as Transformation

import clipax
from benchmarks.peers import reference
from benchmarks.suites import faults
from clipax import norms, thresholds
from clipax.catalogue import ENTRIES

RATE = 1e-3

# Roles of the programs that every case has; others are the case's own.
BARE, PEER, CLIPAX = "unclipped", "peer", "clipax"
TWIN = "clipax, again"
"""The same program in memory of its own: the control."""

Make = Callable[[], Transformation]


@dataclass(frozen=True)
class Case:
    """Programs that are timed in turn on the same tree.

    Attributes:
      summary: What is compared.
      peer: What the program with the role `"peer"` is: optax's equivalent, or the plain reference.
      programs: Factories of optimizers by role; the first is the one without clipping.
      least: What the unclipped step must read and write at least, in P; None where it is not asked.
      zero_leaves: Roles that get a gradient with leaves that are exactly zero.
      usual: Whether it runs unless others are asked for.
    """

    summary: str
    peer: str
    programs: Mapping[str, Make]
    least: int | None = None
    zero_leaves: frozenset[str] = frozenset()
    usual: bool = True


def _sgd(*first: Transformation) -> Transformation:
    return optax.chain(*first, optax.sgd(RATE))


def _adam(*first: Transformation) -> Transformation:
    return optax.chain(*first, optax.adam(RATE))


def _beside_sgd(peer: Make | None, ours: Make, **variants: Make) -> dict[str, Make]:
    """Programs in front of SGD; names of variants have underscores for blanks."""
    made = {CLIPAX: ours} if peer is None else {PEER: peer, CLIPAX: ours}
    made |= {name.replace("_", " "): make for name, make in variants.items()}
    return {BARE: _sgd} | {name: lambda make=make: _sgd(make()) for name, make in made.items()}


def _chain(length: int) -> Make:
    links = [norms.clip(1.0), norms.smooth(1.0), norms.regularized(0.5, 0.1)]
    links.append(norms.adagrad_norm(1.0))
    return lambda: clipax.scale_by_norm(norms.chain(*links[:length]))


def _ordinary(*transformations: Transformation) -> Make:
    return lambda: optax.chain(*transformations)


def _clip(threshold: Any = 1.0) -> Transformation:
    return clipax.clip_by_global_norm(threshold)


def _clip_leaves(threshold: Any) -> Make:
    return lambda: clipax.scale_by_norm(norms.clip(threshold), scope="leaf")


def _methods() -> dict[str, Make]:
    """Every method of the catalogue, optimizers alone, and what optax has to be put in front."""
    made = {BARE: _sgd}
    for name, make in faults.subjects(torch=False).items():
        library, method = name.split("/", 1)
        if library == "clipax" and ENTRIES[method].kind == "optimizer":
            made[name] = make
        elif library == "clipax" or re.match(r"(clip|adaptive_grad_clip|normalize)[^,]*$", method):
            made[name] = lambda make=make: _sgd(make())
    return made


def _thresholds(window: int = 1000) -> dict[str, Make]:
    """A clip with each threshold of the catalogue."""
    made = {BARE: _sgd, CLIPAX: lambda: _sgd(_clip())}
    for name, entry in ENTRIES.items():
        if entry.kind == "threshold":
            remembers = "window" in inspect.signature(entry.factory).parameters
            given = {**entry.example, **({"window": window} if remembers else {})}
            made[name] = lambda entry=entry, given=given: _sgd(_clip(entry.factory(**given)))
    return made


CASES: dict[str, Case] = {
    "sgd": Case(
        "clip by global norm, then SGD",
        "optax.clip_by_global_norm",
        _beside_sgd(lambda: optax.clip_by_global_norm(1.0), _clip),
        least=3,
    ),
    "adam": Case(
        "clip by global norm, then Adam",
        "optax.clip_by_global_norm",
        {
            BARE: _adam,
            PEER: lambda: _adam(optax.clip_by_global_norm(1.0)),
            CLIPAX: lambda: _adam(_clip()),
        },
        least=7,
    ),
    "adagrad-norm": Case(
        "clip, then AdaGrad-Norm, then the learning rate",
        "the two as ordinary transformations",
        _beside_sgd(
            _ordinary(reference.clip_by_global_norm(1.0), reference.scale_by_adagrad_norm(1.0)),
            lambda: clipax.scale_by_norm(norms.clip(1.0), after=norms.adagrad_norm(1.0)),
            two_links=lambda: optax.chain(_clip(), clipax.scale_by_adagrad_norm(b_init=1.0)),
        ),
    ),
    "chain": Case(
        "chains of 1 (clipax), 2 and 4 transformations of norms",
        "clip, then normalise as ordinary transformations",
        _beside_sgd(
            _ordinary(reference.clip_by_global_norm(1.0), reference.normalize_by_global_norm(1e-3)),
            _chain(1),
            clipax_2_links=_chain(2),
            clipax_4_links=_chain(4),
        ),
    ),
    "guard": Case(
        "what the overflow guard and the telemetry cost, clip then SGD",
        "the lean clip without either",
        _beside_sgd(
            lambda: reference.lean_clip(1.0),
            _clip,
            lean_with_guard=lambda: reference.lean_clip(1.0, guard=True),
            clipax_zero_leaves=_clip,
        ),
        zero_leaves=frozenset({"clipax zero leaves"}),
    ),
    "leaf-norm": Case(
        "clip each leaf by its own norm, then SGD",
        "optax.clip_by_block_rms",
        _beside_sgd(lambda: optax.clip_by_block_rms(1e-3), lambda: clipax.clip_by_leaf_norm(1.0)),
    ),
    "agc": Case(
        "clip each unit relative to its parameters (AGC), then SGD",
        "optax.adaptive_grad_clip",
        _beside_sgd(
            lambda: optax.adaptive_grad_clip(0.01), lambda: clipax.clip_by_param_norm(0.01)
        ),
    ),
    "block-rms": Case(
        "clip each leaf by the root mean square of its entries, then SGD",
        "optax.clip_by_block_rms",
        _beside_sgd(lambda: optax.clip_by_block_rms(1e-3), lambda: clipax.clip_by_block_rms(1e-3)),
    ),
    "value": Case(
        "clip entry by entry, then SGD",
        "optax.clip",
        _beside_sgd(lambda: optax.clip(1e-3), lambda: clipax.clip_by_value(1e-3)),
    ),
    "normalize": Case(
        "normalise by the global norm, then SGD",
        "optax.normalize_by_update_norm",
        _beside_sgd(optax.normalize_by_update_norm, lambda: clipax.normalize_by_global_norm(1e-6)),
    ),
    "adam-norm": Case(
        "the optimizer clip_adam_norm (clip, momentum, divisor of norms)",
        "clip and Adam-Norm as ordinary transformations",
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
            PEER: lambda: _adam(_clip()),
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
        _beside_sgd(
            _clip,
            lambda: _clip(thresholds.quantile(0.5, window=1000)),
            max_CCC=lambda: _clip(thresholds.max_ccc(window=1000)),
            percentile=lambda: clipax.clip_by_percentile(10, window=1000),
            zscore=clipax.clip_by_zscore,
        ),
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
        "a tuple that moves up",
        _beside_sgd(lambda: reference.delay_by_tuple(4), lambda: clipax.delay_updates(4)),
    ),
    # The rest is asked for by name, see `command.PRESETS`.
    "methods": Case(
        "every method, an optimizer alone, all else then SGD", "none", _methods(), usual=False
    ),
    "thresholds": Case(
        "a clip with each threshold, window 1,000; clipax: a constant",
        "none",
        _thresholds(),
        usual=False,
    ),
    "scopes": Case(
        "a clip of every leaf, then SGD; clipax: of the global norm",
        "optax.clip_by_global_norm",
        _beside_sgd(
            lambda: optax.clip_by_global_norm(1.0),
            _clip,
            leaf_constant=lambda: clipax.clip_by_leaf_norm(1.0),
            leaf_schedule=_clip_leaves(thresholds.power(1.0, 1.5)),
            leaf_per_entry=_clip_leaves(thresholds.per_entry(1.0)),
            leaf_relative=_clip_leaves(thresholds.relative(0.01)),
        ),
        usual=False,
    ),
    "scopes-memory": Case(
        "a clip of every leaf with memory, then SGD; clipax: a constant, of the global norm",
        "none",
        _beside_sgd(
            None,
            _clip,
            leaf_ema=_clip_leaves(thresholds.ema()),
            leaf_zscore=_clip_leaves(thresholds.zscore()),
            leaf_quantile=_clip_leaves(thresholds.quantile(0.9)),
        ),
        usual=False,
    ),
}
