"""The figures to reach, and whether a measurement reaches them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.cases import CLIPAX, PEER
from benchmarks.measure import TWIN, Record

__all__ = ["TARGETS", "Finding", "Target", "judge"]

HOLDS, NEAR, MISSED = "holds", "holds within the control's spread", "missed"

# Vectors of partial sums and the overflow branch's scratch are temporaries too. What must not be
# there is a copy of the tree, or of a leaf that makes up a good part of it.
_NO_COPY = 0.15


@dataclass(frozen=True)
class Target:
    """A figure to reach.

    Attributes:
      case: Name of the case.
      quantity: "traffic" or "temporaries" (in units of P), "time" or "compile" (ratios).
      limit: The largest value that reaches it.
      over: For ratios, the role of the program to compare with.
      program: The role of the program under test.
      trees: Trees for which it is asked.
      dtypes: Dtypes for which it is asked.
    """

    case: str
    quantity: str
    limit: float
    over: str = PEER
    program: str = CLIPAX
    trees: tuple[str, ...] = ("leaf", "transformer")
    dtypes: tuple[str, ...] = ("f32", "bf16")


@dataclass(frozen=True)
class Finding:
    """A target beside its measurement.

    Attributes:
      target: The figure to reach.
      tree: Where it was measured.
      dtype: In which dtype.
      value: What was measured.
      control: For ratios, the A/A control's median; None for counts.
      spread: For ratios, how far the control strayed from 1.
      verdict: Whether it was reached.
    """

    target: Target
    tree: str
    dtype: str
    value: float
    control: float | None
    spread: float
    verdict: str


_F32, _BF16 = ("f32",), ("bf16",)
_ZEROS = "clipax, zero leaves"

TARGETS: tuple[Target, ...] = (
    Target("sgd", "traffic", 4.02, dtypes=_F32),
    Target("sgd", "temporaries", _NO_COPY),
    Target("sgd", "time", 1.0, dtypes=_F32),
    Target("sgd", "time", 0.4, trees=("leaf",), dtypes=_BF16),
    Target("sgd", "time", 0.85, trees=("transformer",), dtypes=_BF16),
    Target("adam", "traffic", 11.02, dtypes=_F32),
    Target("adam", "temporaries", _NO_COPY, dtypes=_F32),
    Target("adam", "time", 0.6, dtypes=_F32),
    Target("adagrad-norm", "traffic", 4.02),
    Target("adagrad-norm", "temporaries", _NO_COPY),
    Target("adagrad-norm", "time", 0.5),
    Target("chain", "traffic", 4.02, program="clipax, 4 links"),
    Target("chain", "temporaries", _NO_COPY, program="clipax, 4 links"),
    Target("chain", "time", 1.0, over="clipax, 1 link", program="clipax, 4 links"),
    Target("guard", "time", 1.0),
    Target("guard", "time", 1.0, over=CLIPAX, program=_ZEROS),
    # In bfloat16 its momentum is kept in float32, which the peer's is not.
    Target("mixed", "traffic", 9.02, dtypes=_F32),
    Target("mixed", "temporaries", _NO_COPY),
    Target("mixed", "time", 1.4, dtypes=_F32),
    Target("clip-adam", "traffic", 11.02, dtypes=_F32),
    Target("clip-adam", "temporaries", _NO_COPY, dtypes=_F32),
    Target("clip-adam", "time", 1.0, dtypes=_F32),
    Target("memory", "traffic", 4.02),
    Target("memory", "time", 1.0),
    Target("sgd", "compile", 0.65, trees=("many",)),
    Target("adam", "compile", 0.9, trees=("many",)),
)


def judge(records: Sequence[Record]) -> list[Finding]:
    """Compares measurements with the figures to reach.

    Args:
      records: What was measured, repeats pooled.

    Returns:
      A finding for each target and each tree and dtype on which it was measured.
    """
    table = {(one.tree, one.dtype, one.case, one.program): one for one in records}
    findings = []
    for target in TARGETS:
        for tree in target.trees:
            for dtype in target.dtypes:
                place = (tree, dtype, target.case)
                if (*place, target.program) in table:
                    record, twin = table[(*place, target.program)], table[(*place, TWIN)]
                    findings.append(_finding(target, record, twin))
    return findings


def _finding(target: Target, record: Record, twin: Record) -> Finding:
    if target.quantity in ("traffic", "temporaries"):
        value = float(getattr(record, target.quantity))
        verdict = HOLDS if value <= target.limit else MISSED
        return Finding(target, record.tree, record.dtype, value, None, 0.0, verdict)
    compiling = target.quantity == "compile"
    ratios = record.compile_ratios if compiling else record.ratios
    control = (twin.compile_ratios if compiling else twin.ratios)[CLIPAX]
    value, spread = ratios[target.over].median, control.error
    if value <= target.limit:
        verdict = HOLDS
    else:
        verdict = NEAR if value <= target.limit * (1 + spread) else MISSED
    return Finding(target, record.tree, record.dtype, value, control.median, spread, verdict)
