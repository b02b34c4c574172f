"""Writes the tables of docs/papers.md out of the papers' results."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

from benchmarks.harness import records
from benchmarks.harness.records import Column, Row
from benchmarks.papers.files import read
from benchmarks.papers.report import describe_claim

FOLDER = Path(__file__).parent / "results" / "papers"

PAPERS = (
    Column("paper", "paper"),
    Column("figures", "figures"),
    Column("hold", "holds"),
    Column("open", "open"),
    Column("missed", "MISSED"),
    Column("the paper's own", "paper's"),
    Column("ours", "ours"),
)
REAL_DATA = (
    Column("figure", "figure"),
    Column("reference", "reference"),
    Column("measured (95 %)", "measured"),
    Column("verdict", "verdict"),
)


def write_papers() -> str:
    """Writes how many figures of each paper hold, and how many of them no paper states."""
    rows = []
    for result in read(FOLDER, ()):
        verdicts = Counter(claim.verdict for claim in result.claims)
        sources = Counter(claim.source for claim in result.claims)
        row: Row = {"paper": result.title, "figures": len(result.claims)}
        row |= {"paper's": sources["paper"], "ours": sources["ours"]}
        rows.append(row | {name: verdicts[name] for name in ("holds", "open", "MISSED")})
    total = {key: sum(row[key] for row in rows) for key in rows[0] if key != "paper"}
    return records.table(PAPERS, [*rows, {"paper": "all"} | total], markdown=True)


def write_real_data() -> str:
    """Writes what the papers say of training on real data, beside intervals over seeds."""
    rows = []
    for result in read(FOLDER, ()):
        for claim in result.claims:
            if claim.source == "paper" and claim.interval is not None:
                row = describe_claim(claim)
                reference = row["reference"]
                if row["allowed"] == "at most":
                    reference = f"at most {reference}"
                elif row["allowed"] != "in the range":
                    reference = f"{reference} {row['allowed']}"
                rows.append(row | {"reference": reference})
    return records.table(REAL_DATA, rows, markdown=True)


TABLES: dict[str, Callable[[], str]] = {"papers": write_papers, "real-data": write_real_data}
