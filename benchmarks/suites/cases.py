"""The programs under test: for each method the unclipped optimizer, the equivalent, and clipax."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import optax
from optax import GradientTransformation as Transformation

import clipax
from benchmarks.peers import reference
from benchmarks.suites import faults
from clipax import norms, thresholds
from clipax.catalogue import ENTRIES

RATE = 1e-3

# Roles of the programs that most cases have; others are the case's own.
BARE, PEER, CLIPAX = "unclipped", "peer", "clipax"
TWIN = "clipax, again"
"""The same program in memory of its own: the control."""


class Case(NamedTuple):
    """Programs that are timed in turn on the same tree.

    Attributes:
      summary: What is compared.
      peer: What the program with the role `"peer"` is: optax's equivalent, or the plain reference.
      programs: Optimizers by role; the first is the one without clipping.
      least: What the unclipped step must read and write at least, in P; None where it is not asked.
      zero_leaves: Roles that get a gradient with leaves that are exactly zero.
      usual: Whether it runs unless others are asked for.
    """

    summary: str
    peer: str
    programs: Mapping[str, Transformation]
    least: int | None = None
    zero_leaves: frozenset[str] = frozenset()
    usual: bool = True


SGD, ADAM = optax.sgd(RATE), optax.adam(RATE)
OPTAX, CLIP = optax.clip_by_global_norm(1.0), clipax.clip_by_global_norm(1.0)


def _before_sgd(
    summary: str, name: str, peer: Any, ours: Any, variants: Mapping[str, Any] | None = None
) -> Case:
    """A case whose methods stand in front of SGD."""
    made = {PEER: peer, CLIPAX: ours, **(variants or {})}
    return Case(summary, name, {BARE: SGD} | {key: _sgd(one) for key, one in made.items()})


def _sgd(*first: Transformation) -> Transformation:
    return optax.chain(*first, SGD)


def _adam(*first: Transformation) -> Transformation:
    return optax.chain(*first, ADAM)


def _chain(length: int) -> Transformation:
    links = [norms.clip(1.0), norms.clip(1.0, response="sqrt"), norms.clip(0.5, floor=0.1)]
    return clipax.scale_by_norm(norms.chain(*[*links, norms.adagrad_norm(1.0)][:length]))


def _clip_leaves(threshold: Any) -> Transformation:
    return clipax.scale_by_norm(norms.clip(threshold), scope="leaf")


def _list_methods() -> dict[str, Transformation]:
    """Every method of the catalogue, optimizers alone, and what optax has to be put in front."""
    made = {BARE: SGD}
    for name, make in faults.subjects(torch=False).items():
        library, method = name.split("/", 1)
        if library == "clipax" and ENTRIES[method].kind == "optimizer":
            made[name] = make()
        elif library == "clipax" or re.match(r"(clip|adaptive_grad_clip|normalize)[^,]*$", method):
            made[name] = _sgd(make())
    return made


def _list_thresholds(window: int = 1000) -> dict[str, Transformation]:
    """A clip with each threshold of the catalogue."""
    made = {BARE: SGD, CLIPAX: _sgd(CLIP)}
    for name, entry in ENTRIES.items():
        if entry.kind == "threshold":
            remembers = "window" in inspect.signature(entry.factory).parameters
            given = {**entry.example, **({"window": window} if remembers else {})}
            made[name] = _sgd(clipax.clip_by_global_norm(entry.factory(**given)))
    return made


CASES: dict[str, Case] = {
    "sgd": _before_sgd(
        "clip by global norm, then SGD", "optax.clip_by_global_norm", OPTAX, CLIP
    )._replace(least=3),
    "adam": Case(
        "clip by global norm, then Adam",
        "optax.clip_by_global_norm",
        {BARE: ADAM, PEER: _adam(OPTAX), CLIPAX: _adam(CLIP)},
        least=7,
    ),
    "adagrad-norm": _before_sgd(
        "clip, then AdaGrad-Norm, then SGD",
        "the two as ordinary transformations",
        optax.chain(reference.clip_by_global_norm(1.0), reference.scale_by_adagrad_norm(1.0)),
        clipax.scale_by_norm(norms.clip(1.0), after=norms.adagrad_norm(1.0)),
        {"two links": optax.chain(CLIP, clipax.scale_by_adagrad_norm(b_init=1.0))},
    ),
    "chain": _before_sgd(
        "chains of 1 (clipax), 2 and 4 transformations of norms",
        "clip, then normalise as ordinary transformations",
        optax.chain(reference.clip_by_global_norm(1.0), reference.normalize_by_global_norm(1e-3)),
        _chain(1),
        {"clipax 2 links": _chain(2), "clipax 4 links": _chain(4)},
    ),
    "guard": _before_sgd(
        "what the overflow guard and the telemetry cost, clip then SGD",
        "the lean clip without either",
        reference.lean_clip(1.0),
        CLIP,
        {"lean with guard": reference.lean_clip(1.0, guard=True), "clipax zero leaves": CLIP},
    )._replace(zero_leaves=frozenset({"clipax zero leaves"})),
    "leaf-norm": _before_sgd(
        "clip each leaf by its own norm, then SGD",
        "optax.clip_by_block_rms",
        optax.clip_by_block_rms(1e-3),
        clipax.clip_by_leaf_norm(1.0),
    ),
    "agc": _before_sgd(
        "clip each unit relative to its parameters (AGC), then SGD",
        "optax.adaptive_grad_clip",
        optax.adaptive_grad_clip(0.01),
        clipax.clip_by_param_norm(0.01),
    ),
    "block-rms": _before_sgd(
        "clip each leaf by the root mean square of its entries, then SGD",
        "optax.clip_by_block_rms",
        optax.clip_by_block_rms(1e-3),
        clipax.clip_by_block_rms(1e-3),
    ),
    "value": _before_sgd(
        "clip entry by entry, then SGD", "optax.clip", optax.clip(1e-3), clipax.clip_by_value(1e-3)
    ),
    "normalize": _before_sgd(
        "normalise by the global norm, then SGD",
        "optax.normalize_by_update_norm",
        optax.normalize_by_update_norm(),
        clipax.normalize_by_global_norm(1e-6),
    ),
    "adam-norm": Case(
        "the optimizer clip_adam_norm (clip, momentum, divisor of norms)",
        "clip and Adam-Norm as ordinary transformations",
        {
            BARE: optax.sgd(RATE, momentum=0.9),
            PEER: _sgd(
                reference.clip_by_global_norm(1.0), reference.scale_by_adam_norm(1.0, 0.9, 0.999)
            ),
            CLIPAX: clipax.clip_adam_norm(RATE, 1.0),
        },
    ),
    "mixed": Case(
        "mixed clipping: momentum and gradient, each cut by its own norm",
        "clip, then moving average (clipax.scale_by_norm)",
        {
            BARE: _sgd(optax.ema(0.9, debias=False)),
            PEER: _sgd(clipax.scale_by_norm(norms.clip(1.0), b1=0.9)),
            CLIPAX: clipax.mixed_clip_sgd(RATE, 1e-3),
            "soft, weight decay": clipax.mixed_clip_sgd(
                RATE, 1e-3, response="soft", weight_decay=5e-4
            ),
            "momentum clipping": clipax.momentum_clip_sgd(RATE, 1e-3),
            "clip, normalised momentum": clipax.clip_normalized_momentum(RATE, 1.0),
        },
    ),
    "clip-adam": Case(
        "the optimizer clip_adam (clip, momentum, a scale for each entry)",
        "optax.adam behind one more read of the gradient (clipax.clip_by_global_norm)",
        {
            BARE: ADAM,
            PEER: _adam(CLIP),
            CLIPAX: clipax.clip_adam(RATE, 1.0),
            "coordinate-wise": clipax.clip_adam(RATE, 1e-3, clip="coordinate"),
            "leaf by leaf, weight decay": clipax.clip_adam(
                RATE, 1.0, clip="leaf", weight_decay=0.01
            ),
            "delayed": clipax.clip_adam(RATE, 1.0, delay=1),
        },
    ),
    "memory": _before_sgd(
        "thresholds that remember 1,000 norms, then SGD",
        "a constant threshold (clipax.clip_by_global_norm)",
        CLIP,
        clipax.clip_by_global_norm(thresholds.quantile(0.5, window=1000)),
        {
            "max CCC": clipax.clip_by_global_norm(thresholds.max_ccc(window=1000)),
            "percentile": clipax.clip_by_percentile(10, window=1000),
            "zscore": clipax.clip_by_zscore(),
        },
    ),
    "skip": Case(
        "steps with a non-finite gradient left out, Adam",
        "optax.apply_if_finite",
        {
            BARE: ADAM,
            PEER: optax.apply_if_finite(ADAM, 5),
            CLIPAX: clipax.skip_nonfinite(ADAM),
        },
    ),
    "delay": _before_sgd(
        "updates 4 steps late, then SGD",
        "a tuple that moves up",
        reference.delay_by_tuple(4),
        clipax.delay_updates(4),
    ),
    # The rest is asked for by name, see `command.PRESETS`.
    "methods": Case(
        "every method, an optimizer alone, all else then SGD", "none", _list_methods(), usual=False
    ),
    "thresholds": Case(
        "a clip with each threshold, window 1,000; clipax: a constant",
        "none",
        _list_thresholds(),
        usual=False,
    ),
    "scopes": _before_sgd(
        "a clip of every leaf, then SGD; clipax: of the global norm",
        "optax.clip_by_global_norm",
        OPTAX,
        CLIP,
        {
            "leaf constant": clipax.clip_by_leaf_norm(1.0),
            "leaf schedule": _clip_leaves(thresholds.power(1.0, 1.5)),
            "leaf per entry": _clip_leaves(thresholds.block_rms(1.0)),
            "leaf relative": _clip_leaves(thresholds.relative(0.01)),
        },
    )._replace(usual=False),
    "scopes-memory": _before_sgd(
        "a clip of every leaf with memory, then SGD; clipax: a constant, of the global norm",
        "optax.clip_by_global_norm",
        OPTAX,
        CLIP,
        {
            "leaf ema": _clip_leaves(thresholds.ema()),
            "leaf zscore": _clip_leaves(thresholds.zscore()),
            "leaf quantile": _clip_leaves(thresholds.quantile(0.9)),
        },
    )._replace(usual=False),
}
