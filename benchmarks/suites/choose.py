"""Measures each row of the table that says which clip to use: on real norms, live, and its cost.

A clip that works on the norm alone is replayed on the logged norms of `norms/`. Every row is also
run on the small transformer, in front of AdamW or, an optimizer, in its place.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

import clipax
from benchmarks import norms
from benchmarks.harness.records import Column, Row
from benchmarks.harness.suite import Suite, count
from benchmarks.runs import Run, adamw, make_run, train
from clipax import thresholds
from clipax.lab._compare.tasks.choose import make_task

FIRST = 100
"""The first steps of a run, told by themselves."""

REPLAYED = {
    "GPT-2 124M": "GPT-2",
    "Llama-3-8B LoRA": "Llama LoRA",
    "Qwen-VL navigation": "Qwen-VL",
    "REINFORCE routing": "REINFORCE",
    "GRPO, 35B MoE": "GRPO",
}
"""Public logs on which clips are replayed, and how their columns are called."""

TEXT, BATCH_SIZE = "text, batch 32", 32
_ROUNDING = 1e-6


class Choice(NamedTuple):
    """A row of the table.

    Attributes:
      case: For whom.
      use: What is written.
      method: Its name in the results about costs.
      make: Makes it: in front of the optimizer it is given, or in its place.
      alone: The clip by itself, where it works on one norm and can be replayed.
    """

    case: str
    use: str
    method: str
    make: Callable[[optax.GradientTransformation, optax.Schedule], optax.GradientTransformation]
    alone: Callable[[], optax.GradientTransformation] | None = None


def _before(make: Callable[[], Any], case: str, use: str, method: str) -> Choice:
    return Choice(case, use, method, lambda optimizer, rate: optax.chain(make(), optimizer), make)


def _live(make: Callable[[], Any], case: str, use: str, method: str) -> Choice:
    return _before(make, case, use, method)._replace(alone=None)


def _around(wrap: Callable[[Any], Any], case: str, use: str, method: str) -> Choice:
    alone = lambda: wrap(optax.identity())  # noqa: E731
    return Choice(case, use, method, lambda optimizer, rate: wrap(optimizer), alone)


def _instead(make: Callable[[Any], Any], case: str, use: str, method: str) -> Choice:
    return Choice(case, use, method, lambda optimizer, rate: make(rate))


CHOICES = (
    _before(
        lambda: clipax.clip_by_global_norm(1.0),
        "nothing known yet",
        "clip_by_global_norm(1.0)",
        "clip_by_global_norm",
    ),
    _before(
        lambda: clipax.clip_by_zscore(), "norms that change", "clip_by_zscore()", "clip_by_zscore"
    ),
    _before(
        lambda: clipax.clip_by_percentile(10),
        "norms that change",
        "clip_by_percentile(10)",
        "clip_by_percentile",
    ),
    _before(
        lambda: clipax.clip_by_median(2.0),
        "norms that change",
        "clip_by_median(2.0)",
        "clip_by_median",
    ),
    _around(clipax.skip_spikes, "a rare bad batch", "skip_spikes(...)", "skip_spikes"),
    _around(clipax.skip_nonfinite, "NaN", "skip_nonfinite(...)", "skip_nonfinite"),
    _live(
        lambda: clipax.clip_by_group_norm(1.0, total=1.0),
        "one layer spikes",
        "clip_by_group_norm(1.0, total=1.0)",
        "clip_by_group_norm",
    ),
    _live(lambda: clipax.clip_by_ema(), "one layer spikes", "clip_by_ema()", "clip_by_ema"),
    _live(
        lambda: clipax.clip_by_param_norm(0.01, exclude=("readout/*", "*/bias")),
        "no batch normalisation",
        "clip_by_param_norm(0.01)",
        "clip_by_param_norm",
    ),
    _live(
        lambda: optax.chain(
            clipax.monitor_norms(), clipax.clip_by_value(1.0), clipax.monitor_norms()
        ),
        "single entries",
        "clip_by_value(1.0)",
        "clip_by_value",
    ),
    _instead(clipax.spam, "single entries", "spam(rate)", "spam"),
    _instead(clipax.stable_spam, "low precision", "stable_spam(rate)", "stable_spam"),
    _instead(clipax.stable_adamw, "a large rate", "stable_adamw(rate)", "stable_adamw"),
    _live(
        lambda: clipax.clip_by_singular_values(1.0),
        "matrices spike",
        "clip_by_singular_values(1.0)",
        "clip_by_singular_values",
    ),
    _before(
        lambda: clipax.clip_by_global_norm(thresholds.tail_power()),
        "heavy tails",
        "clip_by_global_norm(tail_power())",
        "thresholds.tail_power",
    ),
    _live(
        lambda: clipax.with_error_feedback(clipax.clip_by_global_norm(1.0)),
        "the clip's bias matters",
        "with_error_feedback(...)",
        "with_error_feedback",
    ),
)


def _describe(factors: np.ndarray) -> tuple[float, float]:
    """Returns the share of the steps that are clipped or skipped, and the smallest factor."""
    taken = factors[factors > 0]
    return float(np.mean(factors < 1 - _ROUNDING)), float(min(taken, default=1.0))


def replay(log: norms.Log, choices: Iterable[Choice] = CHOICES) -> dict[str, Row]:
    """Replays a log through every clip that works on one norm: a row for each.

    A clip that remembers begins anew with each stretch.
    """
    clips = {one.use: one.alone for one in choices if one.alone is not None}
    totals = dict.fromkeys(clips, 0.0)
    smallest = dict.fromkeys(clips, 1.0)
    rows = {use: Row({"use": use}) for use in clips}
    steps = sum(len(one.norms) for one in log.stretches)
    for stretch in log.stretches:
        for name, found in _replay(stretch.norms, clips).items():
            totals[name] += found.share * len(stretch.norms)
            smallest[name] = min(smallest[name], found.smallest_factor)
        if stretch.first <= 1 and log.every == 1:
            for name, found in _replay(stretch.norms[:FIRST], clips).items():
                rows[name].setdefault("first", []).append((found.share, found.smallest_factor))
    for name, row in rows.items():
        row |= {"share": totals[name] / steps, "smallest": smallest[name]}
        if beginnings := row.pop("first", None):
            row["first share"] = float(np.mean([one[0] for one in beginnings]))
            row["first smallest"] = min(one[1] for one in beginnings)
    return rows


def _replay(sizes: np.ndarray, clips: Mapping[str, Callable[[], Any]]) -> dict[str, Any]:
    advice = clipax.advise([float(one) for one in sizes])
    made = {name: make() for name, make in clips.items()}
    return {found.name: found for found in advice.replay(made)}


def _run(choice: Choice, run: Run, steps: int) -> Row:
    """Trains with a method, and looks at its telemetry after every step."""
    rate = optax.constant_schedule(1e-3)
    optimizer = choice.make(adamw(run, steps), rate)
    read = jax.jit(lambda state: clipax.metrics(state, top=0))
    seen: list[Mapping[str, jax.Array]] = []
    train(run, optimizer, steps, lambda step, params, state: seen.append(read(state)))
    factors = np.ones(steps)
    sizes = []
    for name in seen[0]:
        values = np.array([float(one[name]) for one in seen])
        if name.endswith("clip_factor"):
            factors = np.minimum(factors, values)
        elif name.endswith("grad_norm"):
            sizes.append(values)
    if len(sizes) == 2 and (factors == 1).all():  # no factor: monitors before and behind
        factors = sizes[1] / sizes[0]
    if "skipped_count" in seen[0]:
        factors[np.diff([int(one["skipped_count"]) for one in seen], prepend=0) > 0] = 0
    share, smallest = _describe(factors)
    first_share, first_smallest = _describe(factors[:FIRST])
    return {
        "share": share,
        "smallest": smallest,
        "first share": first_share,
        "first smallest": first_smallest,
    }


def measure(options: argparse.Namespace) -> Iterator[list[Row]]:
    """Replays the logs, then trains with every row."""
    logs = {one.name: one for path in (norms.PUBLIC, norms.OWN) for one in norms.load(path)}
    for name in (*REPLAYED, TEXT):
        yield [row | {"on": name} for row in replay(logs[name]).values()]
    run, live = make_run(make_task("text", batch_size=BATCH_SIZE)), list[Row]()
    for choice in CHOICES:
        live.append({"on": LIVE, "use": choice.use} | _run(choice, run, options.steps))
        yield live  # all so far: rows of one table are replaced together


LIVE = "text, live"


def add_options(add: Any) -> None:
    """Adds the command's options."""
    add("--steps", type=count, default=200, help="of the transformer; default 200")


SUITE = Suite(
    "the rows of the table that says which clip to use",
    ("on",),
    (
        Column("use", "use"),
        Column("clipped", "share", "{:.0%}"),
        Column("smallest factor", "smallest", "{:.2g}"),
        Column("first 100: clipped", "first share", "{:.0%}"),
        Column("smallest factor", "first smallest", "{:.2g}"),
    ),
    measure,
    add_options=add_options,
    prepare=lambda options: {"steps": str(options.steps)},
)
