"""Puts every method of clipax, and what optax has, through the faults of `clipax.testing`."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import optax

import clipax
from benchmarks.harness import records
from benchmarks.harness.records import Column, Finding
from benchmarks.harness.suite import Suite
from clipax.catalogue import DIES, ENTRIES, RECOVERS, Entry
from clipax.testing import BREAKS, DELAYED, FAULTS, Report, Row, inject_faults
from clipax.testing import DIES as DEAD

_HUGE = ("1e38", "spike")
# What remembers a huge gradient remembers several.
_SEVERAL_HUGE = ("alternating", "fall", "float16_overflow")
# Looks at gradients, and passes on what is not finite.
_ONLOOKERS = {"clipax/monitor_norms": {"nan", "infinity"}}
# Thresholds far above gradients of norm 1: gradients of which some are clipped.
_NORMS = {"clipax/thresholds.anytime": 10.0, "clipax/thresholds.fixed_horizon": 10.0}
# The first keeps zeros for entries that are not finite; inside the second it is `optax.adam` that
# squares 1e38 to infinity.
_REMEMBERS_BAD_STEPS = {"clipax/delay_updates", "clipax/skip_nonfinite"}

BEHIND = "behind a clip"
"""The column of a NaN that a clip in front makes a zero update of."""
_WIDE = 1e9  # clips none of the ordinary gradients

OPTAX: dict[str, Callable[[], Any]] = {
    "clip_by_global_norm": lambda: optax.clip_by_global_norm(1.0),
    "clip": lambda: optax.clip(0.5),
    "adaptive_grad_clip": lambda: optax.adaptive_grad_clip(0.3),
    "clip_by_block_rms": lambda: optax.clip_by_block_rms(0.25),
    "normalize_by_update_norm": optax.normalize_by_update_norm,
    "contrib.normalize": optax.contrib.normalize,
    "zero_nans": optax.zero_nans,
    "ema": lambda: optax.ema(0.9),
    "sgd, momentum": lambda: optax.sgd(0.1, momentum=0.9),
    "adam": lambda: optax.adam(0.1),
    "clip_by_global_norm, adam": lambda: optax.chain(
        optax.clip_by_global_norm(1.0), optax.adam(0.1)
    ),
    "apply_if_finite(adam)": lambda: optax.apply_if_finite(optax.adam(0.1), 10),
    "MultiSteps(adam, skip_not_finite)": lambda: optax.MultiSteps(
        optax.adam(0.1), 1, should_skip_update_fn=optax.skip_not_finite
    ),
    "adafactor": lambda: optax.adafactor(0.1),
    "lion": lambda: optax.lion(0.1),
    "contrib.adopt": lambda: optax.contrib.adopt(0.1),
}
"""What optax has, with arguments that clip some gradients of norm 1 and let others pass."""


def subjects() -> dict[str, Callable[[], Any]]:
    """Lists all methods by library and name."""
    ours: Any = {f"clipax/{name}": partial(_lift, entry) for name, entry in ENTRIES.items()}
    return ours | {f"optax/{name}": make for name, make in OPTAX.items()}


def is_as_declared(
    name: str, report: Report, declared: str | None, lasting: Collection[str] = ()
) -> bool:
    """Whether the faults did what the catalogue declares.

    `declared` and `lasting` are the verdict of its entry and the other faults that last; None for
    what is not in it.
    """
    clean = report.state_kept and report.state_finite
    if declared is not None and name not in _REMEMBERS_BAD_STEPS and not clean:
        return False
    dead = {row.fault for row in report.rows if row.verdict in (DEAD, BREAKS)}
    if declared is None:
        return True
    allowed = {*lasting, *_ONLOOKERS.get(name, ()), *(_SEVERAL_HUGE if declared == DIES else ())}
    huge = dead.intersection(_HUGE)
    return declared == (DIES if huge else RECOVERS) and dead - huge <= allowed


def measure(options: argparse.Namespace) -> Iterator[list[records.Row]]:
    """Runs the suite on one method after the other."""
    for name, make in subjects().items():
        if not re.search(options.only, name):
            continue
        print(f"{name} ...", file=sys.stderr, flush=True)
        report = inject_faults(make(), norm=_NORMS.get(name, 1.0))
        library, _, method = name.partition("/")
        entry = ENTRIES[method] if library == "clipax" else None
        row = {"method": name, "clips": report.clips}
        for fault in FAULTS:
            row[fault] = _join(one for one in report.rows if one.fault == fault)
        # The update of a NaN is zero there: does the second link take it for a small gradient?
        second = optax.chain(clipax.clip_by_global_norm(_WIDE), make())
        row[BEHIND] = _join(inject_faults(second, faults="nan", norm=_NORMS.get(name, 1.0)).rows)
        row |= {"kept": report.state_kept, "verdict": report.verdict}
        told = (entry.verdict, entry.lasting) if entry else (None,)
        yield [row | {"as_declared": is_as_declared(name, report, *told)}]


def judge(rows: Sequence[records.Row], device: str) -> Iterator[Finding]:
    """Judges how many methods do not do what the catalogue declares: none may."""
    wrong = [row["method"] for row in rows if not row["as_declared"]]
    where = f"not {', '.join(wrong)}" if wrong else "all"
    yield records.judge("as the catalogue declares", where, len(wrong), 0)


def _lift(entry: Entry) -> Any:
    """An entry's example as a transformation of gradients."""
    made = entry.factory(**entry.example)
    if entry.kind == "threshold":
        return clipax.clip_by_global_norm(made)
    return clipax.scale_by_norm(made) if entry.kind == "norm" else made


def _join(rows: Iterable[Row]) -> str:
    """The words of all times of a fault, or the one that they share."""
    words = [_describe(row) for row in rows]
    return " / ".join(words if len(set(words)) > 1 else words[:1])


def _describe(row: Row) -> str:
    if row.note:
        return "raises"
    if row.verdict == DELAYED:
        return f"{row.steps} steps"
    return f"{row.verdict}*" if row.verdict == DEAD and row.steps is not None else row.verdict


def _pattern(text: str) -> str:
    if not any(re.search(text, name) for name in subjects()):
        raise argparse.ArgumentTypeError(f"nothing matches {text!r}")
    return text


def add_options(add: Any) -> None:
    """Adds the command's options."""
    add("--only", type=_pattern, default="", help="methods whose library/name matches, a regex")


SUITE = Suite(
    "what becomes of a method once its gradients go wrong",
    (),
    (
        Column("method", "method"),
        Column("clips", "clips"),
        *(Column(fault, fault) for fault in FAULTS),
        Column(BEHIND, BEHIND),
        Column("kept", "kept"),
    ),
    measure,
    judge,
    add_options,
)
