"""The figures that a step's cost is to reach, and whether it does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from benchmarks.harness import records, trees
from benchmarks.harness.records import Finding, Row
from benchmarks.suites.cases import CLIPAX, TWIN, ZEROS

# Vectors of partial sums and the overflow branch's scratch are temporaries too. What must not be
# there is a copy of the tree, or of a leaf that makes up a good part of it.
NO_COPY = 0.15

LABELS = {
    "traffic": "traffic, P",
    "temporaries": "temporaries, P",
    "over_peer": "time / peer's",
    "over_limit": "time / (unclipped + one read)",
    "over_unclipped": "time / unclipped",
    "over_clipax": "time / clipax's",
    "compile_over_peer": "compile time / peer's",
    "compile_over_clipax": "compile time / clipax's",
    "share_of_copy": "share of a copy's speed, at least",
}


class Figure(NamedTuple):
    """A figure to reach: a key of `LABELS`, its limit, and where it is asked for."""

    case: str
    key: str
    limit: float
    trees: Callable[[Row], bool]
    dtypes: str
    program: str


def _ask(
    case: str,
    trees: Callable[[Row], bool],
    dtypes: str = "f32 bf16",
    program: str = CLIPAX,
    **limits: float,
) -> list[Figure]:
    return [Figure(case, key, limit, trees, dtypes, program) for key, limit in limits.items()]


def _on(*names: str) -> Callable[[Row], bool]:
    return lambda row: row["tree"] in names


def _sized(least: int = 0, below: float = float("inf")) -> Callable[[Row], bool]:
    """From a million entries on: below that a step takes as long as its launch."""

    def asks(row: Row) -> bool:
        named = row["tree"] in trees.SHAPES
        return not named and row["entries"] >= 10**6 and least <= row["leaves"] < below

    return asks


_ONE, _LAYERS, _BOTH = _on("leaf"), _on("transformer"), _on("leaf", "transformer")
_MANY, _FEW = _on("many"), _sized(below=1000)

ON_CPUS: list[Figure] = [
    *_ask("sgd", _BOTH, "f32", traffic=4.02),
    *_ask("sgd", _BOTH, temporaries=NO_COPY),
    *_ask("sgd", _BOTH, "f32", over_peer=1.0),
    *_ask("sgd", _ONE, "bf16", over_peer=0.4),
    *_ask("sgd", _LAYERS, "bf16", over_peer=0.85),
    *_ask("adam", _BOTH, "f32", traffic=11.02, temporaries=NO_COPY, over_peer=0.6),
    *_ask("adagrad-norm", _BOTH, traffic=4.02, temporaries=NO_COPY, over_peer=0.5),
    *_ask("guard", _BOTH, over_peer=1.0),
    *_ask("guard", _BOTH, program=ZEROS, over_clipax=1.0),
    *_ask("sgd", _MANY, compile_over_peer=0.65),
    *_ask("adam", _MANY, compile_over_peer=0.9),
    # Of any size; a copy of the tree for Adam in bfloat16, and what partial sums may take.
    *_ask("sgd", _FEW, temporaries=0.01, over_limit=1.1),
    *_ask("adam", _FEW, "f32", temporaries=0.01, over_limit=1.1),
    *_ask("adam", _FEW, "bf16", temporaries=1.01),
    *_ask("sgd", _sized(4000), compile_over_peer=0.3),
    *_ask("adam", _sized(2000), compile_over_peer=0.8),
    *_ask("sgd", _sized(), over_peer=1.0),
    *_ask("adam", _sized(), over_peer=1.0),
    *_ask("adam", _sized(2000), over_unclipped=1.2),
]
for _name in ("constant", "schedule", "per entry", "relative"):
    ON_CPUS += _ask("scopes", _MANY, program=f"leaf {_name}", compile_over_clipax=1.5)
# Clip + Adam moves what it must move nearly as fast as the device copies.
ELSEWHERE = _ask("adam", lambda row: row["entries"] >= 256e6, "f32", share_of_copy=0.9)


def judge(rows: Sequence[Row], device: str) -> Iterator[Finding]:
    """Judges steps: on CPUs some figures, on all else others.

    Counts and times to compile have no control, and figures beside programs that were left out are
    skipped.
    """
    figures = ON_CPUS if device.startswith("cpu") else ELSEWHERE
    for where, some in records.group(rows, ("case", "dtype", "tree")):
        here = {row["program"]: row for row in some}
        for case, key, limit, asks, dtypes, program in figures:
            row = here.get(program, {})
            asked = key in row and row["case"] == case and row["dtype"] in dtypes.split()
            if asked and asks(row):
                spread = measure_spread(here, key) if key.startswith(("over", "share")) else None
                name = LABELS[key] if program == CLIPAX else f"{program}: {LABELS[key]}"
                least = key == "share_of_copy"
                yield records.judge(name, where, row[key], limit, spread=spread, at_least=least)


def measure_spread(here: Mapping[str, Row], key: str) -> float | None:
    """How far the control strays, the worse of two: by the same program, and in the figure.

    Where the steps of thousands of small leaves happen to lie in memory makes a program's times
    fall into two groups. The median of the ratios to its twin can then be 1 by chance, while either
    is compared with other programs in a group of its own. None where the twin was left out.
    """
    if TWIN not in here:
        return None
    ours, twin = here[CLIPAX], here[TWIN]
    return max(twin["strayed"], abs(twin[key] / ours[key] - 1))
