"""Runs side by side: much of a step on a CPU keeps a single core busy."""

from __future__ import annotations

import contextvars
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice, product
from typing import TypeVar

import jax

__all__ = ["map_runs", "map_threads"]

_MOST = 8  # each holds a model and an optimizer's state

K = TypeVar("K")
T = TypeVar("T")
S = TypeVar("S")


def map_threads(function: Callable[[T], S], items: Iterable[T]) -> list[S]:
    """Calls a function on every item, in as many threads as there are cores, up to eight.

    Args:
      function: What it gives may depend on the item alone. The caller's context variables and JAX's
        default device hold inside; other settings of JAX, such as 64-bit numbers, do not.
      items: What it is called with.

    Returns:
      What it gives, in the order of the items. If a call raises, its error is raised as soon as the
      calls before it and those that run have ended; the rest do not begin.
    """
    # Set for this thread alone.
    device = jax.config.jax_default_device  # type: ignore[attr-defined]

    def call(item: T) -> S:
        with jax.default_device(device):
            return function(item)

    with ThreadPoolExecutor(min(_count_cores(), _MOST)) as pool:
        waiting: list[Future[S]] = []
        try:
            for item in items:
                waiting.append(pool.submit(contextvars.copy_context().run, call, item))
            return [one.result() for one in waiting]
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def map_runs(
    function: Callable[[K, T], S], methods: Iterable[K], items: Sequence[T]
) -> dict[K, list[S]]:
    """Calls a function with every method and every item, as `map_threads` does.

    Args:
      function: Of a method and an item.
      methods: The methods.
      items: Seeds, or what else each method is run with.

    Returns:
      What it gives for each item, by method.
    """
    names = list(methods)
    done = iter(map_threads(lambda job: function(*job), product(names, items)))
    return {name: list(islice(done, len(items))) for name in names}


def _count_cores() -> int:
    """Those that this process may use, where the system tells."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
