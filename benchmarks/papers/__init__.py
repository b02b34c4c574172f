"""Figures of the papers, measured with clipax's own optimizers and set beside the reference.

A module a paper, which ends in a `PAPER`; to add one, write it and name it here.
"""

from benchmarks.papers import (
    andrew2021,
    chezhegov2025,
    gorbunov2020,
    koloskova2023,
    marshall2025,
    sadiev2023,
    tucat2025,
    zhang2020,
    zhang2020_mixed,
)
from benchmarks.papers.claims import Claim
from benchmarks.papers.paper import Options, Outcome, Panel, Paper

__all__ = ["PAPERS", "Claim", "Options", "Outcome", "Panel", "Paper"]

PAPERS: dict[str, Paper] = {
    "zhang2020": zhang2020.PAPER,
    "zhang2020_mixed": zhang2020_mixed.PAPER,
    "koloskova2023": koloskova2023.PAPER,
    "tucat2025": tucat2025.PAPER,
    "chezhegov2025": chezhegov2025.PAPER,
    "gorbunov2020": gorbunov2020.PAPER,
    "marshall2025": marshall2025.PAPER,
    "sadiev2023": sadiev2023.PAPER,
    "andrew2021": andrew2021.PAPER,
}
