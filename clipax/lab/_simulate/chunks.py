"""Chunks of runs on all cores, each computed tile by tile.

One program, compiled for a tile of fixed width, computes every run. XLA may add in another order in
a program of another width; this way a run's last bit depends neither on the chunk nor on how many
runs there are.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed

import jax
import numpy as np

from clipax._typing import Array

__all__ = ["compile_tile", "run_chunks", "tile_width"]

_FLOATS = 10_240
"""Numbers in an array of a tile: those of a step then fit the cache of a core."""
_LANES = 128


def tile_width(numbers: int) -> int:
    """Run in a tile: a multiple of 128, so that vectors have no remainder.

    Args:
      numbers: Length of the iterates of one run, over all hyper-parameters.
    """
    return _LANES * math.ceil(_FLOATS / (_LANES * numbers))


def compile_tile(
    program: Callable[..., Array], keys: Array, intervals: Array, points: dict[str, Array]
) -> Callable[[int], np.ndarray]:
    """Compile a program of `tile_program` for its arguments.

    Args:
      program: The program.
      keys: Its first argument.
      intervals: Its second argument.
      points: Its last argument.

    Returns:
      From the number of a tile's first run to the measures, `(records, points, width)`; it may be
      called by several threads at once.
    """
    compiled = jax.jit(program).lower(keys, intervals, np.uint32(0), points).compile()
    return lambda first: np.asarray(compiled(keys, intervals, np.uint32(first), points))


def run_chunks(
    tile: Callable[[int], np.ndarray],
    shape: tuple[int, int],
    *,
    runs: int,
    width: int,
    chunk: int,
    advance: Callable[[int, int], None],
) -> np.ndarray:
    """Compute all runs on all cores.

    Args:
      tile: The result of `compile_tile`.
      shape: Numbers of records and points.
      runs: Number of runs.
      width: Runs in a tile.
      chunk: Runs that a core takes at a time, rounded up to whole tiles.
      advance: Called with the number of runs done and of all runs.

    Returns:
      The measures, `(records, points, runs)`.
    """
    values = np.empty((*shape, runs), np.float32)

    def compute(begin: int, end: int) -> int:
        for first in range(begin, end, width):
            last = min(first + width, end)
            values[..., first:last] = tile(first)[..., : last - first]
        return end - begin

    size = width * math.ceil(chunk / width)
    # Compiled programs run beside each other in threads.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        begins = range(0, runs, size)
        waiting = [pool.submit(compute, begin, min(begin + size, runs)) for begin in begins]
        done = 0
        try:
            for future in as_completed(waiting):
                done += future.result()
                advance(done, runs)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return values
