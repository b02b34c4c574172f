"""What the benchmarks use of the library's private modules: in this file alone."""

from clipax.lab import simulate
from clipax.lab._simulate.chunks import compile_tile, run_chunks, tile_width
from clipax.lab._simulate.program import BLOCK, tile_program
from clipax.lab._simulate.words import step_keys

__all__ = [
    "BLOCK",
    "compile_tile",
    "run_chunks",
    "simulate",
    "step_keys",
    "tile_program",
    "tile_width",
]
