"""Runs side by side give what they give one after the other."""

from __future__ import annotations

import threading
import time

import jax
import jax.numpy as jnp
import pytest

from benchmarks.papers import threads
from benchmarks.papers.threads import map_threads


def test_results_come_in_the_order_of_the_items(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads.os, "cpu_count", lambda: 3)
    barrier = threading.Barrier(3, timeout=20)  # passed by three at a time, or not at all

    def double(item: int) -> int:
        barrier.wait()
        return 2 * item

    assert map_threads(double, range(6)) == [0, 2, 4, 6, 8, 10]
    assert map_threads(double, ()) == []


def test_threads_compute_where_their_caller_does() -> None:
    device = jax.devices("cpu")[-1]
    with jax.default_device(device):
        found = map_threads(lambda _: jnp.zeros(1).devices(), range(2))
    assert found == [{device}] * 2


def test_an_error_is_raised_and_what_has_not_begun_is_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun = []

    def fail(item: int) -> None:
        begun.append(item)
        time.sleep(0.01)  # longer than it takes to hand the items in
        raise ValueError(f"item {item}")

    monkeypatch.setattr(threads.os, "cpu_count", lambda: 1)
    with pytest.raises(ValueError, match="item 0"):
        map_threads(fail, range(200))
    assert len(begun) < 200
