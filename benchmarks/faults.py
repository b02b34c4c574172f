"""Puts every method of clipax, and what it competes with, through the faults of `clipax.testing`.

Run it with `python -m benchmarks.faults`; README.md says what the table means.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import optax

import clipax
from benchmarks import faults_torch
from benchmarks.measure import environment
from clipax.catalogue import DIES, ENTRIES, RECOVERS, Entry
from clipax.testing import BREAKS, DELAYED, FAULTS, Report, Row, inject_faults
from clipax.testing import DIES as DEAD

__all__ = ["OPTAX", "Finding", "main", "subjects"]

_HUGE = ("1e38", "spike")
# Thresholds far above gradients of norm 1: gradients of which some are clipped.
_NORMS = {"clipax/thresholds.anytime": 10.0, "clipax/thresholds.fixed_horizon": 10.0}

OPTAX: dict[str, Callable[[], Any]] = {
    "clip_by_global_norm": lambda: optax.clip_by_global_norm(1.0),
    "clip": lambda: optax.clip(0.5),
    "adaptive_grad_clip": lambda: optax.adaptive_grad_clip(0.3),
    "clip_by_block_rms": lambda: optax.clip_by_block_rms(0.25),
    "normalize_by_update_norm": lambda: optax.normalize_by_update_norm(),
    "contrib.normalize": lambda: optax.contrib.normalize(),
    "zero_nans": lambda: optax.zero_nans(),
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


# The first keeps zeros for entries that are not finite; inside the second it is `optax.adam` that
# squares 1e38 to infinity.
_REMEMBERS_BAD_STEPS = {"delay_updates", "skip_nonfinite"}


@dataclass(frozen=True)
class Finding:
    """What the faults did to one method.

    Attributes:
      name: Library and method, such as `"optax/adam"`.
      report: The report of the suite.
      declared: The verdict on one huge gradient that the catalogue declares; None for what is not
        in it.
    """

    name: str
    report: Report
    declared: str | None

    @property
    def as_declared(self) -> bool:
        """Whether one huge gradient, or one that is not finite, did what the catalogue says."""
        method = self.name.removeprefix("clipax/")
        clean = self.report.state_kept and self.report.state_finite
        if self.declared is not None and method not in _REMEMBERS_BAD_STEPS and not clean:
            return False
        huge = [row for row in self.report.rows if row.fault in _HUGE]
        dead = any(row.verdict in (DEAD, BREAKS) for row in huge)
        return self.declared in (None, DIES if dead else RECOVERS)


def subjects() -> dict[str, Callable[[], Any]]:
    """All methods that can be tested here, by library and name."""
    made = {f"clipax/{name}": lambda entry=entry: _lifted(entry) for name, entry in ENTRIES.items()}
    return made | {f"optax/{name}": make for name, make in OPTAX.items()} | faults_torch.subjects()


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the suite.

    Args:
      arguments: Command line; by default the process's own.

    Returns:
      The exit status: 0, or 1 where a method of clipax does not do what the catalogue declares.
    """
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.faults", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument(
        "--only", metavar="PATTERN", default="", help="methods whose library/name matches, a regex"
    )
    parser.add_argument(
        "--quick", action="store_true", help="without float16 and the empty leaf: a third the time"
    )
    parser.add_argument("--json", type=Path, metavar="PATH", help="write every row")
    parser.add_argument("--markdown", type=Path, metavar="PATH", help="write the table")
    options = parser.parse_args(arguments)
    chosen = {name: make for name, make in subjects().items() if re.search(options.only, name)}
    if not chosen:
        parser.error(f"--only: nothing matches {options.only!r}")
    faults = [
        name
        for name, fault in FAULTS.items()
        if not (options.quick and (fault.dtype or fault.prepare))
    ]
    findings = []
    for name, make in chosen.items():
        print(f"{name} ...", file=sys.stderr, flush=True)
        report = inject_faults(make(), faults=faults, norm=_NORMS.get(name, 1.0))
        library, _, method = name.partition("/")
        declared = ENTRIES[method].verdict if library == "clipax" else None
        findings.append(Finding(name, report, declared))
    print(_table(findings, faults))
    wrong = [finding.name for finding in findings if not finding.as_declared]
    print(f"as the catalogue declares: {'not ' + ', '.join(wrong) if wrong else 'all'}")
    settings = environment() | faults_torch.versions()
    if options.json is not None:
        options.json.write_text(json.dumps(_content(findings, settings), indent=1) + "\n")
    if options.markdown is not None:
        options.markdown.write_text(_markdown(findings, faults, settings))
    return 1 if wrong else 0


def _lifted(entry: Entry) -> Any:
    """An entry's example as a transformation of gradients."""
    made = entry.factory(**entry.example)
    if entry.kind == "threshold":
        return clipax.clip_by_global_norm(made)
    return clipax.scale_by_norm(made) if entry.kind == "norm" else made


def _cells(finding: Finding, faults: Sequence[str]) -> list[str]:
    cells = [finding.name, "yes" if finding.report.clips else "no"]
    for fault in faults:
        words = [_words(row) for row in finding.report.rows if row.fault == fault]
        cells.append(" / ".join(dict.fromkeys(words)))
    return [*cells, "yes" if finding.report.state_kept else "no"]


def _words(row: Row) -> str:
    if row.note:
        return "raises"
    if row.verdict == DELAYED:
        return f"{row.steps} steps"
    return f"{row.verdict}*" if row.verdict == DEAD and row.steps is not None else row.verdict


def _lines(findings: Sequence[Finding], faults: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    header = ["method", "clips", *faults, "kept"]
    return header, [_cells(finding, faults) for finding in findings]


def _table(findings: Sequence[Finding], faults: Sequence[str]) -> str:
    header, rows = _lines(findings, faults)
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in [header, *rows]
    )


def _markdown(
    findings: Sequence[Finding], faults: Sequence[str], settings: Mapping[str, str]
) -> str:
    header, rows = _lines(findings, faults)
    table = [header, ["---"] * len(header), *rows]
    return "\n".join(
        [
            "# Faults",
            "",
            "Written by `python -m benchmarks.faults`; `benchmarks/README.md` says what it means.",
            ", ".join(f"{name} {value}" for name, value in settings.items()) + ".",
            "",
            *(
                f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |"
                for line in table
            ),
            "",
        ]
    )


def _content(findings: Sequence[Finding], settings: Mapping[str, str]) -> dict[str, Any]:
    """Everything measured, as JSON has it: no infinities."""
    records = [
        {
            "method": finding.name,
            "clips": finding.report.clips,
            "verdict": finding.report.verdict,
            "state_kept": finding.report.state_kept,
            "state_finite": finding.report.state_finite,
            "rows": [
                {
                    key: None if isinstance(value, float) and not math.isfinite(value) else value
                    for key, value in asdict(row).items()
                }
                for row in finding.report.rows
            ],
        }
        for finding in findings
    ]
    return {"settings": dict(settings), "records": records}


if __name__ == "__main__":
    sys.exit(main())
