"""Figures of the papers, measured with clipax's own optimizers and set beside the reference.

A module a paper, which ends in a `PAPER`; to add one, write it and name it here.
"""

from benchmarks.papers import (
    chezhegov2025,
    chezhegov2025_theory,
    koloskova2023,
    quantile,
    regularized2025,
    zhang2020,
)
from benchmarks.papers.claims import Claim, Paper

__all__ = ["PAPERS", "Claim", "Paper"]

PAPERS: dict[str, Paper] = {
    "zhang2020": zhang2020.PAPER,
    "chezhegov2025": chezhegov2025.PAPER,
    "chezhegov2025_theory": chezhegov2025_theory.PAPER,
    "regularized2025": regularized2025.PAPER,
    "koloskova2023": koloskova2023.PAPER,
    "quantile": quantile.PAPER,
}
