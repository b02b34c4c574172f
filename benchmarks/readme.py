"""Tables of the README out of the JSON that the benchmarks wrote."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.sweep_report import COPY, OPTAX, OURS, TWIN

__all__ = ["BEGIN", "END", "README", "RESULTS", "block", "replaced"]

ROOT = Path(__file__).parents[1]
README, RESULTS = ROOT / "README.md", Path(__file__).parent / "results"
BEGIN = "<!-- step cost: begin (python -m benchmarks.report) -->"
END = "<!-- step cost: end -->"

_STEPS = (
    ("sgd", "f32", "clip + SGD, f32"),
    ("sgd", "bf16", "clip + SGD, bf16"),
    ("adam", "f32", "clip + Adam, f32"),
    ("adagrad-norm", "f32", "clip, then AdaGrad-Norm, f32"),
)
_TREES = {"leaf": "one leaf of 32M", "transformer": "148 leaves, 30M"}


def block(results: Path = RESULTS) -> str:
    """What stands between the markers, from `step_cost_cpu.json` and `sweep_cpu.json`."""
    steps = json.loads((results / "step_cost_cpu.json").read_text())
    sweep = json.loads((results / "sweep_cpu.json").read_text())
    return f"{_steps(steps)}\n\n{_sweep(sweep)}\n"


def replaced(text: str, new: str) -> str:
    """The text with what stands between the markers replaced.

    Raises:
      ValueError: The markers are not there.
    """
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise ValueError("The README must have each marker of the step cost once.")
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n{new}{END}{rest.split(END)[1]}"


def _steps(content: dict[str, Any]) -> str:
    found = {
        (one["tree"], one["dtype"], one["case"], one["program"]): one for one in content["records"]
    }
    rows = []
    for case, dtype, name in _STEPS:
        for tree, size in _TREES.items():
            ours, peer, twin = (
                found[tree, dtype, case, program] for program in (OURS, "peer", TWIN)
            )
            control = twin["ratios"][OURS]
            spread = max(abs(one - 1) for one in control["repeats"])
            rows.append(
                [
                    f"{name}, {size}",
                    _moved(ours),
                    _moved(peer),
                    f"{ours['ratios']['peer']['median']:.2f}",
                    f"{control['median']:.2f} ± {spread:.2f}",
                ]
            )
    head = ["step", "traffic, temporaries", "peer's", "time over the peer's", "control"]
    return _markdown(head, rows)


def _moved(record: dict[str, Any]) -> str:
    temporaries = record["temporaries"]
    kept = f"{temporaries:.2f}".rstrip("0").rstrip(".") if temporaries >= 0.005 else "0"
    return f"{record['traffic']:.0f} P, {kept}{' P' if kept != '0' else ''}"


def _sweep(content: dict[str, Any]) -> str:
    settings, places = content["settings"], dict[tuple[Any, ...], dict[str, Any]]()
    for one in content["rows"]:
        where = (one["optimizer"], one["dtype"], one["entries"], one["leaves"])
        places.setdefault(where, {})[one["program"]] = one
    rows = []
    for (optimizer, dtype, entries, leaves), here in places.items():
        ours, peer = here[OURS], here[OPTAX]
        if entries < 10**6 or COPY not in here:
            continue
        rows.append(
            [
                f"{optimizer}, {dtype}, {entries // 10**6}M in {leaves:,}",
                f"{ours['minimum']:.0f} P",
                *(f"{one['traffic']:.0f} P, {one['temporaries']:.2f} P" for one in (ours, peer)),
                *(f"{one['over_limit']:.2f}" for one in (ours, peer)),
                f"{abs(here[TWIN]['over_clipax'] - 1):.2f}",
                *(f"{one['compile_cpu_seconds']:.1f}" for one in (ours, peer)),
            ]
        )
    head = ["clip +", "least", "traffic, temp.", "optax's", "time / limit", "optax's", "control ±"]
    about = (
        f"The same at other sizes (`python -m benchmarks.sweep`, {settings['device']}, jax "
        f"{settings['jax']}, optax {settings['optax']}, {settings['date']}): entries in leaves; "
        "*least* is what a step must move, *limit* the time of the unclipped step and one read of "
        "the gradient; compile times in seconds of the processor."
    )
    return f"{about}\n\n{_markdown([*head, 'compile s', 'compile s, optax'], rows)}"


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
