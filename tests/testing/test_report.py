"""The report as a table."""

from __future__ import annotations

import optax

from clipax.testing import FAULTS, inject_faults

# The faults that share one compiled scan.
ONE_PROGRAM = [
    name for name, fault in FAULTS.items() if fault.dtype is None and fault.prepare is None
]


def test_the_table_names_every_row():
    report = inject_faults(optax.scale(0.1), faults=ONE_PROGRAM)
    lines = str(report).splitlines()
    assert len(lines) == 1 + len(report.rows)
    for line, row in zip(lines[1:], report.rows, strict=True):
        assert line.split()[:3] == [row.fault, row.when, row.verdict]
