"""One case for each catalogue entry and option worth a run of its own, with its oracle."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import optax

import clipax
from clipax import norms
from clipax.catalogue import ENTRIES, Entry
from tests.oracles import ORACLES, Oracle, Tree, Updates
from tests.oracles import _tree as tree
from tests.oracles import scale_by_norm as rules
from tests.oracles._chain import chain
from tests.oracles.clip_adam_norm import scale_by_adagrad_norm
from tests.oracles.clip_by_global_norm import clip_by_global_norm
from tests.oracles.skip_nonfinite import skip_nonfinite

HEAVY_BALL = 0.5  # exact in every dtype


def heavy_ball(gradients: Sequence[Tree], params: Tree) -> Updates:
    """The oracle of the optax transformation that `skip_nonfinite` and `skip_spikes` wrap here."""
    trace = tree.zeros(gradients[0])
    updates = []
    for gradient in gradients:
        trace = tree.add(tree.scale(HEAVY_BALL, trace), gradient)
        updates.append(trace)
    return updates


@dataclasses.dataclass(frozen=True)
class Case:
    """A way to build one method, and what its oracle is told."""

    name: str
    entry: Entry
    keywords: Mapping[str, Any]
    reference: Callable[[Sequence[Tree], Tree], Updates]

    @property
    def factory(self) -> Callable[..., Any]:
        """The public function."""
        return self.entry.factory

    def __str__(self) -> str:
        return self.name

    def factory_of_updates(self) -> Callable[..., optax.GradientTransformationExtraArgs]:
        """The factory, its result lifted to gradients, with the factory's own signature."""
        lift: dict[str, Callable[..., Any]] = {
            "threshold": clipax.clip_by_global_norm,
            "norm": clipax.scale_by_norm,
        }
        if self.entry.kind not in lift:
            return self.factory

        # Optax reads the names of the hyper-parameters from the signature.
        @functools.wraps(self.factory)
        def lifted(*arguments: Any, **keywords: Any) -> optax.GradientTransformationExtraArgs:
            policy = {name: keywords.pop(name) for name in POLICY if name in keywords}
            return lift[self.entry.kind](self.factory(*arguments, **keywords), **policy)

        return lifted

    def make(self, **overrides: Any) -> optax.GradientTransformationExtraArgs:
        """The method as a transformation of gradients, some keywords replaced."""
        return self.factory_of_updates()(**{**self.keywords, **overrides})


def top_of_the_path(path: str) -> str:
    """Labels that merge the leaves of one module."""
    return path.partition("/")[0]


def is_dense_bias(path: str) -> bool:
    """Whether to exclude a leaf; a pattern would have to fit one of every tree."""
    return path == "dense/bias"


# Building blocks whose program, lifted with that scope, is the one of a named transformation (which
# test_repository.py shows): what the contract says of one it says of the other.
TWINS: dict[str, tuple[str, str]] = {
    "norms.clip": ("clip_by_global_norm", "global"),
    "norms.normalize": ("normalize_by_global_norm", "global"),
    "thresholds.ema": ("clip_by_ema", "leaf"),
    "thresholds.median": ("clip_by_median", "global"),
    "thresholds.percentile": ("clip_by_percentile", "global"),
    "thresholds.quantile": ("clip_by_quantile", "global"),
    "thresholds.relative": ("clip_by_param_norm", "unit"),
    "thresholds.zscore": ("clip_by_zscore", "global"),
}

POLICY = ("nonfinite", "axis_name")

# Options that take another path through the code than an entry's example does.
OPTIONS: dict[str, tuple[dict[str, Any], ...]] = {
    "clip_by_group_norm": ({"labels": top_of_the_path}, {"total": None}),
    "thresholds.power": ({"regime": "convex"}, {"regime": "nonconvex"}, {"horizon": 50}),
    "thresholds.rms_of_norms": ({"limit": None, "decay": 0.9},),
    "thresholds.max_ccc": ({"min_fraction": 0.5},),
    "norms.rms_clip": ({"compensate": "bound"},),
    "norms.max_ccc_clip": ({"min_fraction": 0.5},),
    "thresholds.tail_power": ({"sigma": 3.0, "regime": "convex"},),
    "thresholds.anytime": ({"regime": "convex", "gamma": 3.0},),
    "clip_by_zscore": (
        {"cut_to": "hard", "max_norm": 20.0},
        {"cut_to": "mean", "decay": 0.9},
    ),
    "clip_by_param_norm": ({"exclude": is_dense_bias},),
    "clip_by_lp_norm": ({"ord": 1}, {"ord": 2}, {"ord": 3.5}),
    "clip_by_value": ({"response": "huber"},),
    "clip_by_smooth_norm": ({"response": "huber"},),
    "norms.adagrad_norm": ({"delay": 1},),
    "norms.adam_norm": ({"delay": 3},),
    "scale_by_adagrad_norm": ({"delay": 1}, {"b1": 0.9, "delay": 3}),
    "scale_by_adam_norm": ({"delay": 1}, {"b1": None, "delay": 3}),
    "skip_spikes": ({"threshold": None}, {"threshold": 1.0, "max_consecutive": 2}),
    "delay_updates": ({"delay": None}, {"delay": 1}, {"delay": 3}),
    "clip_sgd": ({"offset": 0.5},),
    "regularized_clip_sgd": ({"weight_decay": 0.1}, {"delta": 0.0}),
    "clip_adagrad_norm": ({"delay": 1}, {"delay": 3}, {"b1": 0.9}, {"b1": 0.9, "delay": 1}),
    "clip_adam_norm": ({"delay": 1}, {"delay": 3}, {"b1": None}),
    "clip_adagrad": ({"delay": 1, "clip": "leaf"}, {"delay": 3, "weight_decay": 0.1}),
    "clip_adam": (
        {"delay": 1, "weight_decay": 0.1},
        {"delay": 3, "clip": "coordinate"},
        {"b1": None, "clip": "leaf"},
    ),
    "mixed_clip_sgd": (
        {"response": "soft", "decay": 0.9},
        {"weight_decay": 0.1, "decay": 0.9},
        {"nu": 0.0},
    ),
    "momentum_clip_sgd": ({"response": "soft"}, {"weight_decay": 0.1}),
    "acclip": ({"alpha": 1.5},),
    "stable_adamw": ({"weight_decay": 0.1},),
    "spam": ({"reset": None, "weight_decay": 0.1}, {"theta": 2.0, "clip_from": 0, "warmup": None}),
    "stable_spam": ({"reset": None, "weight_decay": 0.1},),
    "ggnc": (
        {"norm": "max", "radius": 30.0},
        {"norm": "spectral", "radius": 30.0},
        {"norm": "spectral", "radius": 30.0, "method": "polar"},
    ),
    "clip_by_singular_values": ({"method": "polar"},),
    "with_error_feedback": ({"memory": "buffer"}, {"b1": 0.9}, {"b1": 0.5, "step": 0.25}),
}


# Arguments that say the same to an oracle in its own words, by entry or by case.
IN_WORDS_OF_THE_ORACLE: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "with_error_feedback": (
        {"inner": clipax.clip_by_global_norm(1.0)},
        {"inner": functools.partial(clip_by_global_norm, max_norm=1.0)},
    ),
    # A buffer that this sequence fills and empties.
    "with_error_feedback-memory=buffer": (
        {"inner": clipax.clip_by_global_norm(30.0)},
        {"inner": functools.partial(clip_by_global_norm, max_norm=30.0)},
    ),
    "skip_nonfinite": ({"inner": optax.trace(HEAVY_BALL)}, {"inner": heavy_ball}),
    "skip_spikes": (
        {"inner": optax.trace(HEAVY_BALL), "threshold": 10.0},
        {"inner": heavy_ball, "threshold": 10.0},
    ),
    "scale_by_norm": (
        {"before": norms.clip(1.0), "after": norms.adagrad_norm(0.5), "b1": 0.9},
        {"before": lambda: rules.clip(1.0), "after": lambda: rules.adagrad_norm(0.5), "b1": 0.9},
    ),
}


def decaying(count: Any) -> Any:
    """A schedule for a learning rate or a threshold, of a Python integer or of a traced count."""
    return 0.5 + 4.0 / (1 + count)


# Arguments that may be schedules. They advance on every step, whatever the gradient.
SCHEDULED: dict[str, tuple[str, ...]] = {
    "clip_by_global_norm": ("max_norm",),
    "clip_by_leaf_norm": ("threshold",),
    "clip_by_value": ("threshold",),
    "normalized_sgd": ("learning_rate",),
    "regularized_clip_sgd": ("learning_rate", "threshold"),
    "clip_adam_norm": ("learning_rate", "threshold"),
    "clip_adam": ("learning_rate", "threshold"),
    "mixed_clip_sgd": ("learning_rate", "max_step"),
}


def _scheduled(name: str) -> Case:
    case = case_of(ENTRIES[name], dict.fromkeys(SCHEDULED[name], decaying))
    return dataclasses.replace(case, name=f"{name}-scheduled")


def case_of(entry: Entry, options: Mapping[str, Any]) -> Case:
    """The case of an entry, with its example and these options; nothing else need be known."""
    # By their names, functions are the same in every process.
    told = {key: getattr(value, "__name__", value) for key, value in options.items()}
    name = entry.name + "".join(f"-{key}={value}" for key, value in told.items())
    given = {**entry.example, **options}
    if entry.name not in ORACLES:
        raise LookupError(
            f"{entry.name} has no oracle: register one in tests/oracles/ with "
            f'`@oracle("{entry.name}")`.'
        )
    by_entry = IN_WORDS_OF_THE_ORACLE.get(entry.name, (given, given))
    ours, theirs = IN_WORDS_OF_THE_ORACLE.get(name, by_entry)
    reference = functools.partial(ORACLES[entry.name], **{**theirs, **options})
    return Case(name, entry, {**ours, **options}, reference)


def _composed(name: str, keywords: Mapping[str, Any], reference: Oracle) -> Case:
    """A case for building blocks, which are no methods of their own."""
    return Case(name, ENTRIES["scale_by_norm"], keywords, reference)


COMPOSED = (
    _composed(
        "norms.chain",
        {"before": norms.chain(norms.clip(1.0), norms.adagrad_norm(0.5))},
        # A link that is handed a zero update remembers it; the chain leaves out the whole step.
        functools.partial(
            skip_nonfinite,
            inner=functools.partial(
                chain,
                links=(
                    functools.partial(clip_by_global_norm, max_norm=1.0),
                    functools.partial(scale_by_adagrad_norm, b_init=0.5),
                ),
            ),
        ),
    ),
    _composed(
        "norms.delay",
        {"before": norms.delay(norms.clip(1.0), 2, initial=0.25)},
        functools.partial(
            rules.scale_by_norm, before=lambda: rules.delay(rules.clip(1.0), 2, initial=0.25)
        ),
    ),
    _composed(
        "scale_by_norm-weight_decay=0.1",
        {"before": norms.clip(1.0), "weight_decay": 0.1, "b1": 0.9},
        functools.partial(
            rules.scale_by_norm, before=lambda: rules.clip(1.0), weight_decay=0.1, b1=0.9
        ),
    ),
)

BASIC: dict[str, Case] = {
    name: case_of(entry, {}) for name, entry in ENTRIES.items() if name not in TWINS
}
"""Each entry with its example, without twins."""
CASES: dict[str, Case] = BASIC | {
    case.name: case
    for name, options in OPTIONS.items()
    for case in [case_of(ENTRIES[name], option) for option in options]
}
CASES |= {case.name: case for case in (*COMPOSED, *map(_scheduled, SCHEDULED))}
"""Each entry with its example and with its options, and compositions of building blocks."""
REPRESENTATIVES = (
    "thresholds.power",
    "thresholds.max_ccc",
    "norms.adagrad_norm",
    "clip_by_leaf_norm",
    "scale_by_adam_norm-delay=1",
    "delay_updates",
    "skip_nonfinite",
    "clip_adam_norm",
    "clip_adam-delay=3-clip=coordinate",
    "mixed_clip_sgd-weight_decay=0.1-decay=0.9",
    "clipped_sstm",
)
"""One for each kind, and one for each sort of state: these run the whole contract."""
MEASURING = tuple(name for name in REPRESENTATIVES if name != "delay_updates")
"""Those of them that have telemetry."""
SEES_LEAVES: dict[str, Case] = {
    name: case
    for name, case in BASIC.items()
    if case.entry.kind in ("transformation", "optimizer") or name in REPRESENTATIVES
}
"""Entries by themselves, without the thresholds and decisions that are no representatives: these
only ever see norms in float32 or better, whatever the leaves are."""
