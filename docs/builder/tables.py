"""Tables in reStructuredText, and the rows of the results that are kept of one method."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache

from benchmarks.docs import load
from benchmarks.harness.records import Column, Row
from benchmarks.harness.trees import write_size
from benchmarks.suites.faults import BEHIND
from benchmarks.suites.programs import ONE_ARRAY, join
from clipax.testing import FAULTS

__all__ = ["list_costs", "list_faults", "name_peer", "write_table"]

_COSTS = (
    Column("traffic", "traffic", "{:.3g} P"),
    Column("optax's traffic", "peer traffic", "{:.3g} P"),
    Column("temporaries", "temporaries", "{:.2f} P"),
    Column("kernels", "kernels"),
    Column("optax's kernels", "peer kernels"),
    Column("time", "time"),
)
_FAULT_WORDS = {
    "nan": "a NaN",
    "infinity": "an infinity",
    "zero": "a zero gradient",
    "zeros": "{length} zero gradients",
    "frozen": "a leaf that is frozen for {length} steps",
    "constant_norms": "{length} equal norms",
    "1e38": "a norm of 1e38",
    "1e-38": "a norm of 1e-38",
    "float16_overflow": "float16 entries whose squares overflow",
    "spike": "a spike of a million times the usual norm",
    "dip": "a dip to a millionth",
    "alternating": "{length} norms, large and small in turn",
    "fall": "a level that falls a thousandfold",
    "empty_leaf": "a leaf without entries",
    BEHIND: "a NaN behind a clip that makes a zero update of it",
}
"""What `clipax.testing.FAULTS` do, and the last column of the suite."""


def write_table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a table."""
    lines = [".. list-table::", "   :header-rows: 1", ""]
    for row in (titles, *rows):
        lines += [f"   {'*' if not place else ' '} - {cell}" for place, cell in enumerate(row)]
    return "\n".join([*lines, ""])


@cache
def _load_programs(name: str) -> list[Row]:
    return join(load(name).rows)


@cache
def _load_methods() -> dict[str, Row]:
    return {row["program"]: row for row in load("methods_cpu").rows}


def list_costs(method: str) -> str:
    """Return the table of a method's costs on CPU, GPU and TPU."""
    rows = []
    here = _load_methods()
    if row := here.get(f"clipax/{method}"):
        both = (row["step_seconds"], here["unclipped"]["step_seconds"])
        time = "{:.2f} ms; SGD alone {:.2f}".format(*(1e3 * seconds for seconds in both))
        rows.append([_name_target("CPU", row), *_write_cells(row | {"time": time})])
    for row in _load_programs("programs_gpu"):
        if row["method"] == method:
            rows.append([_name_target("GPU (H200)", row), *_write_cells(row)])
    for row in _load_programs("programs_tpu"):
        # Small arrays stay on the chip; what is launched there are no kernels.
        if row["method"] == method and row["tree"] in ONE_ARRAY:
            counts = {key: value for key, value in row.items() if not key.endswith("kernels")}
            rows.append([_name_target("TPU (v5e)", row), *_write_cells(counts)])
    return write_table(["compiled for", *(column.title for column in _COSTS)], rows)


def _name_target(machine: str, row: Row) -> str:
    return f"{machine}: {write_size(row['tree'])}, {row['dtype']}"


def _write_cells(row: Row) -> list[str]:
    return [column.write(row) for column in _COSTS]


def name_peer(method: str) -> str | None:
    """Return the step with optax alone that comes nearest to a method."""
    rows = _load_programs("programs_gpu")
    return next((row["peer"] for row in rows if row["method"] == method and row["peer"]), None)


def list_faults(method: str) -> str:
    """Return the table of what faults do to a method."""
    row = next(row for row in load("faults").rows if row["method"] == f"clipax/{method}")
    cells = [
        (_FAULT_WORDS[name].format(length=fault.length), row[name].replace("*", r"\*"))
        for name, fault in (*FAULTS.items(), (BEHIND, FAULTS["nan"]))
    ]
    return write_table(("fault", "its updates"), cells)
