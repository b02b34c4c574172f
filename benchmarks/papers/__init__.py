"""Figures of the papers, measured with clipax's own optimizers and set beside the reference.

A module a paper, which ends in a `PAPER`; to add one, write it and name it here.
"""

from benchmarks.papers import (
    chezhegov2025,
    gorbunov2020,
    koloskova2023,
    marshall2025,
    mixed2020,
    power,
    quantile,
    regularized2025,
    zhang2020,
)
from benchmarks.papers.claims import Claim
from benchmarks.papers.paper import Options, Outcome, Panel, Paper

__all__ = ["PAPERS", "Claim", "Options", "Outcome", "Panel", "Paper"]

PAPERS: dict[str, Paper] = {
    "zhang2020": zhang2020.PAPER,
    "mixed2020": mixed2020.PAPER,
    "koloskova2023": koloskova2023.PAPER,
    "regularized2025": regularized2025.PAPER,
    "chezhegov2025": chezhegov2025.PAPER,
    "gorbunov2020": gorbunov2020.PAPER,
    "marshall2025": marshall2025.PAPER,
    "power": power.PAPER,
    "quantile": quantile.PAPER,
}
