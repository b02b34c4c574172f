"""The comparison: chooses each method's learning rate, then trains it on other seeds."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from clipax._interruption import announce
from clipax.lab._compare.data import Dataset, load_data
from clipax.lab._compare.methods import resolve
from clipax.lab._compare.models import check_model
from clipax.lab._compare.plan import Method, Plan
from clipax.lab._compare.results import MethodResult, ResultStore
from clipax.lab._compare.settings import SELECTION_SEEDS, Settings
from clipax.lab._compare.train import Trainer
from clipax.lab.noise import parse_noise

__all__ = ["Observer", "choose_rate", "compare"]


class Observer(Protocol):
    """Receives the progress of a comparison."""

    def tell(self, remark: str) -> None:
        """Take a remark, one line."""

    def begin(self, stretches: int, kept: Sequence[str]) -> None:
        """Take the number of stretches of steps ahead, and the methods finished already."""

    def begin_method(self, name: str) -> None:
        """Take the name of the method that begins."""

    def advance(self) -> None:
        """Count a stretch of steps that is done."""

    def end_method(self, result: MethodResult) -> None:
        """Take the result of a finished method, which is saved."""


def choose_rate(validation_loss: np.ndarray, guessing: float) -> int:
    """Choose the learning rate with the lowest mean validation loss.

    A diverged run counts as the worst loss of any rate, and no less than guessing: it is a model
    of no use, but one such run in four does not hide three good ones.

    Args:
      validation_loss: losses for each rate and seed, infinite where the run diverged.
      guessing: the loss of guessing, `log(classes)`.

    Returns:
      The index of the rate; the first of equals.
    """
    finite = np.isfinite(validation_loss)
    worst = np.max(validation_loss, where=finite, initial=guessing)
    return int(np.argmin(np.where(finite, validation_loss, worst).mean(axis=1)))


class _SilentObserver:
    """Ignores the progress."""

    def tell(self, remark: str) -> None:
        pass

    def begin(self, stretches: int, kept: Sequence[str]) -> None:
        pass

    def begin_method(self, name: str) -> None:
        pass

    def advance(self) -> None:
        pass

    def end_method(self, result: MethodResult) -> None:
        pass


def compare(
    settings: Settings, methods: Sequence[str], folder: Path, observer: Observer | None = None
) -> list[MethodResult]:
    """Run a comparison, or the part of it that is not in the folder yet.

    Args:
      settings: what to train on and how.
      methods: names of methods, or `all`.
      folder: where results are kept. Methods that are there with the same settings are not trained
        again, and each method is saved as soon as it is finished.
      observer: receives the progress; None (default): nothing is printed.

    Returns:
      The results of all methods in the folder, the best first.

    Raises:
      InputError: if a method, the data, a setting or the folder cannot be used, or another process
        uses the folder.
    """
    observer = _SilentObserver() if observer is None else observer
    chosen = resolve(methods, settings.threshold, settings.learning_rates)
    data = load_data(settings.data)
    plan = Plan(
        settings.steps, settings.batch_size, parse_noise(settings.noise), settings.noise_scale
    )
    check_model(settings.model, data)
    store = ResultStore(folder, settings.record(data.fingerprint))
    with store.hold() as left:
        announce(
            f"Finished methods are kept in {folder}; the same command resumes.", store.lock.release
        )
        if left:
            observer.tell(f"took over the lock of {left}, which ended without giving it back")
        for remark in data.remarks:
            observer.tell(remark)
        _train(chosen, data, plan, settings, store, observer)
    announce(f"The results are kept in {folder}; the same command writes the report.")
    return sorted(store.results.values(), key=MethodResult.order)


def _train(
    chosen: Sequence[Method],
    data: Dataset,
    plan: Plan,
    settings: Settings,
    store: ResultStore,
    observer: Observer,
) -> None:
    """Train the methods that the store lacks."""
    waiting = [method for method in chosen if method.name not in store.results]
    stretches = sum(
        plan.stretches(len(_selection_runs(method))) + plan.stretches(settings.seeds)
        for method in waiting
    )
    observer.begin(stretches, tuple(store.results))
    trainer = Trainer(data, settings.model, plan)
    for method in waiting:
        observer.begin_method(method.name)
        result = _run(trainer, method, settings, observer)
        store.add(result)
        observer.end_method(result)


def _selection_runs(method: Method) -> list[tuple[int, float]]:
    """List the pairs of seed and rate that choose; none where there is one rate only."""
    rates = method.learning_rates
    return [(seed, rate) for rate in rates for seed in SELECTION_SEEDS if len(rates) > 1]


def _run(trainer: Trainer, method: Method, settings: Settings, observer: Observer) -> MethodResult:
    started = time.perf_counter()
    train = trainer.prepare(method)
    validation_loss = np.zeros((0, 0))
    rate = method.learning_rates[0]
    if runs := _selection_runs(method):
        outcome = train(runs, trainer.data.validation, False, observer.advance)
        validation_loss = outcome.loss[:, -1].reshape(-1, len(SELECTION_SEEDS))
        best = choose_rate(validation_loss, float(np.log(trainer.data.classes)))
        rate = method.learning_rates[best]
    outcome = train(
        [(seed, rate) for seed in settings.test_seeds], trainer.data.test, True, observer.advance
    )
    fraction = outcome.clip_fraction
    return MethodResult(
        method=method.name,
        learning_rates=method.learning_rates,
        validation_loss=_rows(validation_loss),
        learning_rate=rate,
        seeds=settings.test_seeds,
        points=trainer.plan.points,
        loss=_rows(outcome.loss),
        accuracy=_rows(outcome.accuracy),
        # A run that diverged at its first step may have recorded no threshold.
        clip_fraction=None
        if fraction is None or np.isnan(fraction).all()
        else tuple(map(float, np.nan_to_num(fraction))),
        seconds=round(time.perf_counter() - started, 2),
    )


def _rows(matrix: np.ndarray) -> tuple[tuple[float, ...], ...]:
    """Convert a matrix to tuples of numbers of six digits, as they are stored."""
    return tuple(tuple(float(f"{value:.6g}") for value in row) for row in matrix)
