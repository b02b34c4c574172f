"""Tables of claims, for the terminal and as Markdown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table

from benchmarks.papers.claims import Claim, Number, Source
from benchmarks.papers.paper import Result

__all__ = ["describe_claim", "markdown", "table", "verdict"]

_COLUMNS = ("figure", "source", "reference", "measured", "allowed", "verdict")
_STYLES = {"MISSED": "bold red", "open": "yellow"}


def table(result: Result) -> Table:
    """A paper's claims as a table for the terminal.

    Args:
      result: The claims.

    Returns:
      A rich table; what is missed is printed in red.
    """
    shown = Table(
        box=SIMPLE_HEAD, title=_heading(result), title_justify="left", padding=0, show_edge=False
    )
    shown.add_column(_COLUMNS[0], overflow="fold")
    for column in _COLUMNS[1:]:
        shown.add_column(column, justify="right", no_wrap=True)
    for claim in result.claims:
        shown.add_row(*describe_claim(claim).values(), style=_STYLES.get(claim.verdict))
    return shown


def verdict(results: Sequence[Result]) -> str:
    """One line for all papers, or more where something does not hold.

    Args:
      results: The papers' claims.

    Returns:
      How many figures hold, and the names of those that do not.
    """
    claims = [(result.name, claim) for result in results for claim in result.claims]
    held = sum(claim.holds for _, claim in claims)
    others = [
        f"- {word.capitalize()}: {name}, {claim.name}"
        for word in ("MISSED", "open")
        for name, claim in claims
        if claim.verdict == word
    ]
    failed = [f"- Failed: {failure}" for result in results for failure in result.failures]
    return "\n".join([f"{held} of {len(claims)} figures hold.", *others, *failed])


def _legend(results: Sequence[Result]) -> str:
    """What the columns mean, with the number of claims of each source."""
    counts = Counter(claim.source for result in results for claim in result.claims)
    meaning: dict[Source, str] = {
        "paper": "the paper says it, in its text or a figure (where it gives no number, the limit "
        "is ours)",
        "derived": "computed from the paper's formulas without clipax",
        "ours": "no paper says it",
    }
    sources = "; ".join(f"{name} ({counts[name]}): {words}" for name, words in meaning.items())
    return (
        f"Sources: {sources}. In brackets: a 95 % interval over seeds, for the noise at a "
        "point over batches: Student's for ratios of networks' losses and for correlations, by a "
        "bootstrap elsewhere, which makes it somewhat too short for few seeds. A figure is open "
        "where its interval has values on both sides of the limit."
    )


def markdown(results: Sequence[Result], pictures: Mapping[str, str]) -> str:
    """The whole report as Markdown.

    Args:
      results: The papers' claims.
      pictures: Links from the report to the pictures, by the papers' names.

    Returns:
      The text, with a final line break.
    """
    parts = ["# Figures of the papers", verdict(results), _legend(results)]
    for result in results:
        parts.append(f"## {_heading(result)}")
        parts.append(", ".join(f"{name} {value}" for name, value in result.settings.items()) + ".")
        lines = [f"- Failed: {failure}" for failure in result.failures]
        lines += [f"- {note}" for note in result.notes]
        if lines:
            parts.append("\n".join(lines))
        if result.claims:
            parts.append(
                _grid(
                    [_COLUMNS, *(tuple(describe_claim(claim).values()) for claim in result.claims)]
                )
            )
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


def describe_claim(claim: Claim) -> dict[str, str]:
    """What the tables say of a claim, by the names of their columns."""
    reference = claim.reference
    ends = reference if isinstance(reference, Sequence) else (reference,)
    digits = _digits(claim, ends)
    measured = _figure(claim.measured, digits)
    if claim.interval is not None:
        measured += f" ({' to '.join(_figure(end, digits) for end in claim.interval)})"
    cells = (
        claim.name,
        claim.source,
        " to ".join(map(_figure, ends)),
        measured,
        claim.allowed,
        claim.verdict,
    )
    return dict(zip(_COLUMNS, cells, strict=True))


def _digits(claim: Claim, ends: Sequence[Number]) -> int:
    """Four, or as many as show on which side of the reference an interval and its middle lie."""
    numbers = () if claim.interval is None else (claim.measured, *claim.interval)
    for digits in range(4, 8):
        shown = {_figure(float(end), digits): end for end in ends}
        if all(shown.get(_figure(float(x), digits), x) == x for x in numbers):
            break
    return digits


def _figure(number: Number, digits: int = 4) -> str:
    return f"{number:,}" if isinstance(number, int) else f"{number:,.{digits}g}"
