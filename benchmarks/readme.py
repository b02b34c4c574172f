"""Tables of the README out of the JSON that the benchmarks wrote."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import sweep_files
from benchmarks.sweep_files import Content
from benchmarks.sweep_report import (
    MISSED,
    NEAR,
    OPTAX,
    OURS,
    TWIN,
    Finding,
    judge,
    places,
    spread,
)

__all__ = ["BEGIN", "END", "README", "RESULTS", "about", "block", "replaced"]

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
_VERDICTS = {MISSED: "missed", NEAR: "within the control"}
_ABSENT = "-"  # the program was left out
_TREES = {"leaf": "one leaf of 32M", "transformer": "148 leaves, 30M"}


def block(results: Path = RESULTS) -> str:
    """What stands between the markers, from `step_cost_cpu.json` and `sweep_cpu.json`."""
    steps = json.loads((results / "step_cost_cpu.json").read_text())
    sweep = sweep_files.load(results / "sweep_cpu.json")
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
    text = f"`step_cost_cpu.json`: {about(content['settings'])}."
    return f"{text}\n\n{_markdown(head, rows)}"


def _moved(record: dict[str, Any]) -> str:
    temporaries = record["temporaries"]
    kept = f"{temporaries:.2f}".rstrip("0").rstrip(".") if temporaries >= 0.005 else "0"
    return f"{record['traffic']:.0f} P, {kept}{' P' if kept != '0' else ''}"


def _sweep(content: Content) -> str:
    several = len(content.runs) > 1
    rows = []
    for _, here in places(content.rows):
        ours, peer = here[OURS], here.get(OPTAX)
        if ours["entries"] < 10**6:
            continue
        step = f"{ours['optimizer']}, {ours['dtype']}"
        device, control = content.runs[ours["run"]]["device"], spread(here, "over_limit")
        rows.append(
            [
                f"{step}, {ours['entries'] // 10**6:,}M in {ours['leaves']:,}",
                f"{ours['minimum']:.0f} P",
                *(
                    f"{one['traffic']:.0f} P, {one['temporaries']:.2f} P" if one else _ABSENT
                    for one in (ours, peer)
                ),
                *(f"{one['over_limit']:.2f}" if one else _ABSENT for one in (ours, peer)),
                _ABSENT if control is None else f"{control:.2f}",
                *(f"{one['compile_cpu_seconds']:.1f}" if one else _ABSENT for one in (ours, peer)),
                _verdict(judge(list(here.values()), device)),
                *([str(ours["run"] + 1)] if several else []),
            ]
        )
    head = ["clip +", "least", "traffic, temp.", "optax's", "time / limit", "optax's", "control ±"]
    head += ["compile s", "compile s, optax", "figures to reach", *(["run"] if several else [])]
    runs = "; ".join(
        f"run {number}: {about(one)}" if several else about(one)
        for number, one in enumerate(content.runs, start=1)
    )
    text = (
        f"The same at other sizes (`python -m benchmarks.sweep`, `sweep_cpu.json`, {runs}): "
        "entries in leaves; *least* is what a step must move, *limit* the time of the unclipped "
        "step and one read of the gradient; compile times in seconds of the processor. Figures "
        "that are not reached stand with what was measured (and the figure); one that is exceeded "
        "by no more than its control strays is *within the control*; all others hold."
    )
    return f"{text}\n\n{_markdown(head, rows)}"


def about(settings: Mapping[str, str]) -> str:
    """Device, versions and date of a run, as text."""
    parts = [f"{settings['device']}", *(f"{one} {settings[one]}" for one in ("jax", "optax"))]
    if "torch" in settings:
        parts.append(f"torch {settings['torch']}")
    # What `environment` of `measure.py` could not tell of a tree that was not installed.
    known = settings.get("clipax", "0.0.0") != "0.0.0"
    parts.append(f"clipax {settings['clipax']}" if known else "clipax of an unrecorded version")
    if "commit" in settings:
        parts.append(f"commit {settings['commit']}")
    rounds = f"{settings['rounds']} rounds" if "rounds" in settings else "rounds not recorded"
    parts += [settings["date"], rounds, *([settings["note"]] if "note" in settings else [])]
    return ", ".join(parts)


def _verdict(findings: Sequence[Finding]) -> str:
    """Which figures are missed, as a cell of a table; the others hold."""
    parts = []
    for verdict in (MISSED, NEAR):
        some = [
            f"{one.figure} {one.value:.3f} ({one.limit:g})"
            for one in findings
            if one.verdict == verdict
        ]
        if some:
            parts.append(f"{_VERDICTS[verdict]}: {', '.join(some)}")
    return "; ".join(parts) or ("all hold" if findings else "none set")


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
