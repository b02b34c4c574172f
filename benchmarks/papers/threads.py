"""Runs side by side: much of a step on a CPU keeps a single core busy."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import jax

__all__ = ["map_threads"]

T = TypeVar("T")
S = TypeVar("S")


def map_threads(function: Callable[[T], S], items: Iterable[T]) -> list[S]:
    """Calls a function on every item, as many at a time as there are cores.

    Args:
      function: What it gives may depend on the item alone.
      items: What it is called with.

    Returns:
      What it gives, in the order of the items. Where it raises, calls that have not begun are left
      out.
    """
    device = jax.config.jax_default_device  # of this thread alone

    def call(item: T) -> S:
        with jax.default_device(device):
            return function(item)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        waiting = [pool.submit(call, item) for item in items]
        try:
            return [one.result() for one in waiting]
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
