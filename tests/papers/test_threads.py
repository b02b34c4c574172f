"""Runs side by side: in order, on their caller's device, and ended by the first error."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import pytest

from benchmarks.papers import threads
from benchmarks.papers.threads import map_runs, map_threads
from clipax.measure import assume_devices
from clipax.measure._gather import is_whole


def _allow(monkeypatch: pytest.MonkeyPatch, cores: int) -> None:
    monkeypatch.setattr(threads, "_count_cores", lambda: cores)


def test_as_many_run_at_a_time_as_there_are_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    _allow(monkeypatch, 3)
    barrier = threading.Barrier(3, timeout=20)  # passed by three at a time, or not at all
    now, most = 0, 0
    lock = threading.Lock()

    def double(item: int) -> int:
        nonlocal now, most
        with lock:
            now += 1
            most = max(now, most)
        barrier.wait()
        with lock:
            now -= 1
        return 2 * item

    assert map_threads(double, range(9)) == [0, 2, 4, 6, 8, 10, 12, 14, 16]
    assert most == 3
    assert map_threads(double, ()) == []


def test_runs_are_by_method_in_the_order_of_their_seeds() -> None:
    found = map_runs(lambda name, seed: f"{name}{seed}", ["a", "b"], range(3, 5))
    assert found == {"a": ["a3", "a4"], "b": ["b3", "b4"]}


def test_threads_compute_as_their_caller_does() -> None:
    device = jax.devices("cpu")[-1]
    with jax.default_device(device), assume_devices(1):
        found = map_threads(lambda _: (jnp.zeros(1).devices(), is_whole(jnp.zeros(1))), range(2))
    assert found == [({device}, True)] * 2


def test_an_error_is_raised_and_what_has_not_begun_is_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun = []

    def fail(item: int) -> None:
        begun.append(item)
        time.sleep(0.01)  # longer than it takes to hand the items in
        raise ValueError(f"item {item}")

    _allow(monkeypatch, 1)
    with pytest.raises(ValueError, match="item 0"):
        map_threads(fail, range(200))
    assert len(begun) < 200


def test_nothing_more_begins_where_the_items_end_with_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun = []

    def wait(item: int) -> None:
        begun.append(item)
        time.sleep(0.01)

    def give() -> Iterator[int]:
        yield from range(200)
        raise KeyError("no more")

    _allow(monkeypatch, 1)
    with pytest.raises(KeyError, match="no more"):
        map_threads(wait, give())
    assert len(begun) < 200
