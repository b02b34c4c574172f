"""Measures what clipping every example's gradient takes: time and memory against batch size.

Run it with `python -m benchmarks.per_example`; README.md says what it is for.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks import per_example_forms as forms
from benchmarks.hlo import tree_bytes
from benchmarks.measure import environment
from benchmarks.per_example_figure import draw
from benchmarks.per_example_models import MODELS
from benchmarks.timing import interleave, median_ratio

__all__ = ["main"]

SIZES = {"mlp": [32, 128, 256], "transformer": [8, 32, 64]}
FORMS = [
    forms.PLAIN,
    forms.OPTAX,
    forms.JAX_PRIVACY,
    forms.OPACUS,
    forms.CLIPAX,
    forms.AGAIN,
    forms.EIGHT,
]
# At the largest batch: time over optax's, and temporaries in P.
TARGETS = {"mlp": 0.2, "transformer": 1.1}
TARGET_TEMPORARIES = 15.0
Record = dict[str, Any]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark.

    Args:
      arguments: Command line; by default the process's own.

    Returns:
      The exit status: 0, or 1 where a figure is missed.
    """
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.per_example", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--models", nargs="+", choices=[*MODELS], default=[*MODELS])
    parser.add_argument(
        "--sizes", nargs="+", type=int, metavar="N", help=f"of batches (default {SIZES})"
    )
    parser.add_argument("--rounds", type=int, default=7, help="samples of each (default 7)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured")
    parser.add_argument("--figure", type=Path, metavar="FILE", help="draw it; needs matplotlib")
    options = parser.parse_args(arguments)
    if options.rounds < 1 or any(size < 1 for size in options.sizes or ()):
        parser.error("--rounds and --sizes must be at least 1")
    absent = forms.missing()
    print("\n".join(absent.values()))
    records: list[Record] = []
    for model in options.models:
        for size in options.sizes or SIZES[model]:
            found = _measure(model, size, options.rounds, absent)
            records += found
            print(_table(found), flush=True)
    verdicts = _verdicts(records) if not options.sizes else {}
    print("\n".join(f"{'met   ' if met else 'MISSED'} {text}" for text, met in verdicts.items()))
    if options.json is not None:
        settings = environment() | forms.versions()
        settings |= {
            "rounds": str(options.rounds),
            "left out": "; ".join(absent.values()),
        }
        content = {"settings": settings, "records": records, "verdicts": verdicts}
        options.json.write_text(json.dumps(content, indent=1) + "\n")
    if options.figure is not None:
        draw(records, options.figure, jax.devices()[0].device_kind)
    return int(not all(verdicts.values()))


def _measure(model: str, size: int, rounds: int, absent: dict[str, str]) -> list[Record]:
    """All forms on one batch, in turns."""
    problem = MODELS[model](size)
    whole = tree_bytes(problem.params)
    runners, temporaries = {}, {}
    for name in FORMS:
        # Opacus knows layers of PyTorch, for which only the dense model has a twin.
        if name in absent or (name == forms.OPACUS and model != "mlp"):
            continue
        runners[name], temporaries[name] = forms.made(name, problem)
    times = interleave(runners, rounds)
    records = []
    for name in runners:
        ratios = {}
        for other in (forms.PLAIN, forms.OPTAX, forms.CLIPAX):
            ratio = median_ratio(times[name], times[other])
            ratios[other] = {"median": ratio.median, "low": ratio.low, "high": ratio.high}
        bytes_ = temporaries[name]
        records.append(
            {
                "model": model,
                "size": size,
                "form": name,
                "milliseconds": 1e3 * float(np.median(times[name])),
                "temporaries": None if bytes_ is None else bytes_ / whole,
                "ratios": ratios,
            }
        )
    return records


def _table(records: Sequence[Record]) -> str:
    first = records[0]
    lines = [
        f"{first['model']}, {first['size']} examples",
        f"{'':24} {'ms':>9} {'temp. P':>8} {'/ plain':>8} {'/ optax':>8}  / clipax (10-90 %)",
    ]
    for one in records:
        ratios = one["ratios"]
        plain, peer = (ratios[other]["median"] for other in (forms.PLAIN, forms.OPTAX))
        ours = ratios[forms.CLIPAX]
        spread = f"{ours['median']:.3f} ({ours['low']:.3f}-{ours['high']:.3f})"
        memory = "" if one["temporaries"] is None else f"{one['temporaries']:.2f}"
        lines.append(
            f"{one['form']:24} {one['milliseconds']:9.2f} {memory:>8} {plain:8.2f} {peer:8.3f}  "
            f"{spread}"
        )
    return "\n".join(lines)


def _verdicts(records: Sequence[Record]) -> dict[str, bool]:
    verdicts = {}
    for model, limit in TARGETS.items():
        ours = [one for one in records if (one["model"], one["form"]) == (model, forms.CLIPAX)]
        if not ours:
            continue
        last = max(ours, key=lambda one: one["size"])
        ratio = last["ratios"][forms.OPTAX]["median"]
        verdicts[f"{model}: {ratio:.3f} of optax's time, at most {limit:g}"] = ratio <= limit
        most = max(one["temporaries"] for one in ours)
        met = most <= TARGET_TEMPORARIES
        verdicts[f"{model}: {most:.2f} P of temporaries, at most {TARGET_TEMPORARIES:g}"] = met
    return {text: bool(met) for text, met in verdicts.items()}


if __name__ == "__main__":
    sys.exit(main())
