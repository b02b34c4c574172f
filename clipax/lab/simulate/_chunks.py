"""Chunks of runs on all cores."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed

import jax
import numpy as np

from clipax import _validate
from clipax._typing import Array

__all__ = ["chunk_width", "run_chunks"]

_FLOATS = 16_384
"""Numbers in an array of a chunk: those of a step then fit the cache of a core."""
_LANES = 128
"""Runs in a chunk are a multiple of this, so that all are computed by the same instructions."""


def chunk_width(chunk: int | None, runs: int, numbers: int) -> int:
    """Runs in a chunk.

    Args:
      chunk: How many are wanted; None for as many as stay in the cache.
      runs: How many there are.
      numbers: Length of the iterates of one run, over all hyper-parameters.

    Returns:
      A multiple of 128; unless `chunk` says otherwise, such that all cores end together.
    """
    if chunk is not None:
        width = _validate.index("chunk", chunk, minimum=1)
    else:
        cores = os.cpu_count() or 1
        chunks = math.ceil(runs * numbers / _FLOATS)
        width = math.ceil(runs / (cores * math.ceil(chunks / cores)))
    return _LANES * math.ceil(min(width, runs) / _LANES)


def run_chunks(
    program: Callable[..., Array],
    keys: Array,
    intervals: Array,
    points: dict[str, Array],
    runs: int,
    width: int,
    advance: Callable[[int, int], None],
) -> np.ndarray:
    """Runs a program of `chunk_program` for all runs.

    Args:
      program: The program.
      keys: Its first argument.
      intervals: Its second argument.
      points: Its last argument.
      runs: How many runs.
      width: Runs in a chunk.
      advance: Called with the number of chunks done and of all chunks.

    Returns:
      The measures, `(records, points, runs)`.
    """
    first = [np.uint32(number) for number in range(0, runs, width)]
    # Compiled once; compiled programs run beside each other in threads.
    compiled = jax.jit(program).lower(keys, intervals, first[0], points).compile()

    shape = compiled.out_info
    values = np.empty((*shape.shape[:2], runs), shape.dtype)

    def chunk(number: np.uint32) -> None:
        found = np.asarray(compiled(keys, intervals, number, points))
        values[..., number : number + width] = found[..., : runs - int(number)]

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        waiting = [pool.submit(chunk, number) for number in first]
        try:
            for done, future in enumerate(as_completed(waiting), start=1):
                future.result()
                advance(done, len(first))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return values
