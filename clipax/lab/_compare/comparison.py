"""The comparison: chooses each method's learning rate, then trains it on seeds of its own."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from clipax.lab._compare.data import load_data
from clipax.lab._compare.methods import resolve
from clipax.lab._compare.models import check_model
from clipax.lab._compare.plan import Method, Plan
from clipax.lab._compare.results import MethodResult, ResultStore
from clipax.lab._compare.settings import SELECTION_SEEDS, Settings
from clipax.lab._compare.train import Trainer
from clipax.lab.noise import parse_noise

__all__ = ["Observer", "choose_rate", "compare"]


class Observer(Protocol):
    """What a comparison tells while it runs."""

    def begin(self, stretches: int, kept: Sequence[str]) -> None:
        """How many stretches of steps are ahead, and which methods are finished already."""

    def method(self, name: str) -> None:
        """A method begins."""

    def advance(self) -> None:
        """A stretch of steps is done."""

    def saved(self, result: MethodResult) -> None:
        """A method is finished and its result saved."""


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


class _Nobody:
    """An observer to whom nothing matters."""

    def begin(self, stretches: int, kept: Sequence[str]) -> None:
        pass

    def method(self, name: str) -> None:
        pass

    def advance(self) -> None:
        pass

    def saved(self, result: MethodResult) -> None:
        pass


def compare(
    settings: Settings, methods: Sequence[str], folder: Path, observer: Observer | None = None
) -> list[MethodResult]:
    """Run a comparison, or what is left of it.

    Args:
      settings: what to train on and how.
      methods: names of methods, or `all`.
      folder: where results are kept. Methods that are there with the same settings are not trained
        again, and each method is saved as soon as it is finished.
      observer: is told about the progress; None (default): nobody is, and nothing is printed.

    Returns:
      The results of all methods in the folder, the best first.

    Raises:
      InputError: if any of it cannot be done.
    """
    observer = _Nobody() if observer is None else observer
    chosen = resolve(methods, settings.threshold, settings.learning_rates)
    data = load_data(settings.data)
    plan = Plan(
        settings.steps, settings.batch_size, parse_noise(settings.noise), settings.noise_scale
    )
    check_model(settings.model, data)
    store = ResultStore(folder, settings.record(data.fingerprint))
    waiting = [method for method in chosen if method.name not in store.results]
    stretches = sum(
        plan.stretches(len(_selection_runs(method))) + plan.stretches(settings.seeds)
        for method in waiting
    )
    observer.begin(stretches, tuple(store.results))
    trainer = Trainer(data, settings.model, plan)
    for method in waiting:
        observer.method(method.name)
        result = _run(trainer, method, settings, observer)
        store.add(result)
        observer.saved(result)
    return sorted(store.results.values(), key=MethodResult.order)


def _selection_runs(method: Method) -> list[tuple[int, float]]:
    """Pairs of seed and rate; none where there is nothing to choose."""
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
        # A run that diverged at its first step may have no threshold on record.
        clip_fraction=None
        if fraction is None or np.isnan(fraction).all()
        else tuple(map(float, np.nan_to_num(fraction))),
        seconds=round(time.perf_counter() - started, 2),
    )


def _rows(matrix: np.ndarray) -> tuple[tuple[float, ...], ...]:
    """A matrix as tuples of numbers of six digits, as they are stored."""
    return tuple(tuple(float(f"{value:.6g}") for value in row) for row in matrix)
