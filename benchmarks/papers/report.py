"""Tables of claims, for the terminal and as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table

from benchmarks.papers.claims import Claim, Number
from benchmarks.papers.paper import Result

__all__ = ["markdown", "table", "verdict"]

_COLUMNS = ("figure", "reference", "measured", "allowed", "verdict")


def table(result: Result) -> Table:
    """A paper's claims as a table for the terminal.

    Args:
      result: The claims.

    Returns:
      A rich table; what does not hold is printed in red.
    """
    shown = Table(
        box=SIMPLE_HEAD, title=_heading(result), title_justify="left", padding=0, show_edge=False
    )
    shown.add_column(_COLUMNS[0], overflow="fold")
    for column in _COLUMNS[1:]:
        shown.add_column(column, justify="right", no_wrap=True)
    for claim in result.claims:
        shown.add_row(*_row(claim), style=None if claim.holds else "bold red")
    return shown


def verdict(results: Sequence[Result]) -> str:
    """One line for all papers, or more where something does not hold.

    Args:
      results: The papers' claims.

    Returns:
      How many figures hold, and the names of those that do not.
    """
    claims = [(result.name, claim) for result in results for claim in result.claims]
    missed = [f"- Missed: {name}, {claim.name}" for name, claim in claims if not claim.holds]
    failed = [f"- Failed: {failure}" for result in results for failure in result.failures]
    line = f"{len(claims) - len(missed)} of {len(claims)} figures hold."
    return "\n".join([line, *missed, *failed])


def markdown(results: Sequence[Result], pictures: Mapping[str, str]) -> str:
    """The whole report as Markdown.

    Args:
      results: The papers' claims.
      pictures: Links from the report to the pictures, by the papers' names.

    Returns:
      The text, with a final line break.
    """
    parts = ["# Figures of the papers", verdict(results)]
    for result in results:
        parts.append(f"## {_heading(result)}")
        parts.append(", ".join(f"{name} {value}" for name, value in result.settings.items()) + ".")
        lines = [f"- Failed: {failure}" for failure in result.failures]
        lines += [f"- {note}" for note in result.notes]
        if lines:
            parts.append("\n".join(lines))
        if result.claims:
            parts.append(_grid([_COLUMNS, *(_row(claim) for claim in result.claims)]))
        if result.name in pictures:
            parts.append(f"![{result.title}]({pictures[result.name]})")
    return "\n\n".join(parts) + "\n"


def _heading(result: Result) -> str:
    return f"{result.name}: {result.title} ({result.seconds:.0f} s)"


def _grid(lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table, its columns aligned."""
    lines = [[cell.replace("|", r"\|") for cell in line] for line in lines]
    columns = list(zip(*lines, strict=True))
    widths = [max(map(len, column)) for column in columns]
    written = [
        " | ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])])
        for line in lines
    ]
    written.insert(
        1, " | ".join(["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])])
    )
    return "\n".join(f"| {line} |" for line in written)


def _row(claim: Claim) -> tuple[str, ...]:
    reference = claim.reference
    ends = reference if isinstance(reference, Sequence) else (reference,)
    return (
        claim.name,
        " to ".join(map(_figure, ends)),
        _figure(claim.measured),
        claim.allowed,
        "holds" if claim.holds else "MISSED",
    )


def _figure(number: Number) -> str:
    return f"{number:,}" if isinstance(number, int) else f"{number:,.4g}"
