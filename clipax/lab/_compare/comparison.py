"""The comparison: chooses each method's rate and threshold, then trains it on other seeds."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from clipax._interruption import announce
from clipax.lab._compare.fingerprint import compute_fingerprint
from clipax.lab._compare.methods import DEFAULT_METHODS, Method, resolve
from clipax.lab._compare.norms import Norms
from clipax.lab._compare.outcome import Comparison
from clipax.lab._compare.plan import SELECTION_SEEDS, Plan, Run, Setting
from clipax.lab._compare.progress import Bar, Silence
from clipax.lab._compare.results import MethodResult
from clipax.lab._compare.search import choose, list_first, list_second
from clipax.lab._compare.settings import Settings
from clipax.lab._compare.store import MemoryStore, ResultStore
from clipax.lab._compare.tasks.choose import is_own, make_task
from clipax.lab._compare.tasks.task import Task
from clipax.lab._compare.train import Trainer
from clipax.lab._compare.words import split_methods
from clipax.lab._errors import InputError

__all__ = ["compare"]

# Its norms are what constant thresholds are set by; at the least of its rates it diverges nowhere
# that a default is meant for.
_WATCHED = "adamw"


def compare(
    task: Task | str = "digits",
    methods: Sequence[str] | str = DEFAULT_METHODS,
    *,
    steps: int = Settings.steps,
    seeds: int = Settings.seeds,
    noise: str | None = None,
    noise_scale: float = Settings.noise_scale,
    corrupt: float | None = None,
    learning_rates: Sequence[float] | None = None,
    model: str | None = None,
    batch_size: int | None = None,
    width: int | None = None,
    out: str | Path | None = None,
    progress: bool = True,
) -> Comparison:
    """Train a task with several clips and optimizers, each at its best setting.

    For each method eight settings of learning rate and threshold are tried, by the loss on
    `task.validation` over four seeds; the results are those of other seeds on `task.test`. All
    methods meet the same initial weights, batches and noise.

    Args:
      task: A `Task` of your own, `"digits"` (default), `"text"`, `"breast-cancer"`, `"wine"`, the
        path of an `.npz` or LIBSVM file, or `"module:task"`.
      methods: Names such as `"adamw"`, `"clip_by_global_norm+adamw"`,
        `"clip_by_percentile:percentile=20+lion"` or `"clip_adam_norm"`; or one text with commas
        between them.
      steps: Updates in a run, from 1; default 400.
      seeds: Seeds of the results, from 1; default 16.
      noise: Law of the noise on gradients: `"none"`, `"pareto:1.5"` and the like in every entry,
        `"norm:pareto:3"` in the norm. Default: the latter for built-in tasks, none for others.
      noise_scale: Its scale s, positive; default 0.3. The noise is `s ||g|| / sqrt(d) xi`.
      corrupt: Share of batches that `task.corrupt` spoils, in [0, 1]. Default: 0.01 for built-in
        tasks, 0 for others.
      learning_rates: Rates to try for all methods. Default: four for each, and more around the
        best.
      model: `"mlp"` or `"cnn"`, for examples. Default: `"mlp"`.
      batch_size: For built-in tasks. Default: 8 sequences or 32 examples.
      width: Runs that are vectorised. Default: as many as fit into 2 GiB, at most 8.
      out: Folder that keeps every finished method; the same call resumes. Default: none.
      progress: Whether to show a bar on stderr; default true.

    Returns:
      A `Comparison`: print it for a table and a summary; `plot()` draws it.

    Raises:
      InputError: A method, the task, an argument or the folder cannot be used.

    Example:
      >>> from clipax.lab import compare
      >>> found = compare("wine", ["sgd", "clip_by_global_norm+sgd"], steps=5, seeds=2,
      ...                 progress=False)
      >>> [len(result.settings) for result in found.results]
      [8, 8]
    """
    if width is not None and not (isinstance(width, int) and width >= 1):
        raise InputError(f"width must be at least 1, got {width}.")
    built_in = not is_own(task)
    settings = Settings(
        noise=(Settings.noise if built_in else "none") if noise is None else noise,
        noise_scale=noise_scale,
        corrupt=(Settings.corrupt if built_in else 0.0) if corrupt is None else corrupt,
        steps=steps,
        seeds=seeds,
        learning_rates=None if learning_rates is None else tuple(learning_rates),
    )
    observer = Bar() if progress else Silence()
    with observer:
        names = split_methods(methods) if isinstance(methods, str) else methods
        chosen = resolve(names, settings.learning_rates)
        made = make_task(task, model, batch_size)
        if settings.corrupt and made.corrupt is None:
            raise InputError(f"corrupt: the task {made.name} has no function `corrupt`.")
        plan = Plan(settings.steps, settings.gradient_noise, settings.corrupt)
        trainer = Trainer(made, plan, width)
        store = _open_store(out, made, trainer, settings)
        with _hold(store, observer):
            for remark in made.remarks:
                observer.tell(remark)
            _train(chosen, trainer, settings, store, observer)
    if out is not None:
        announce(f"The results are kept in {out}; the same command writes the report.")
    results = sorted(store.results.values(), key=MethodResult.order)
    assert store.norms is not None
    return Comparison(made.name, settings, store.norms, tuple(results))


def _open_store(
    out: str | Path | None, task: Task, trainer: Trainer, settings: Settings
) -> MemoryStore:
    if out is None:
        return MemoryStore()
    return ResultStore(Path(out), settings.record(task.name, compute_fingerprint(task, trainer)))


@contextlib.contextmanager
def _hold(store: MemoryStore, observer: Bar | Silence) -> Iterator[None]:
    with store.hold() as left:
        if isinstance(store, ResultStore):
            announce(
                f"Finished methods are kept in {store.path.parent}; the same command resumes.",
                store.lock.release,
            )
        if left:
            observer.tell(f"took over the lock of {left}, which ended without giving it back")
        yield


def _train(
    chosen: Sequence[Method],
    trainer: Trainer,
    settings: Settings,
    store: MemoryStore,
    observer: Bar | Silence,
) -> None:
    """Train the methods that the store lacks."""
    waiting = [method for method in chosen if method.name not in store.results]
    blocks = [_count_stretches(method, trainer, settings) for method in waiting]
    watched = trainer.plan.stretches(len(SELECTION_SEEDS), trainer.width)
    observer.begin(sum(blocks) + watched * (store.norms is None), tuple(store.results))
    norms = store.norms
    if norms is None:
        observer.begin_method("norms without a clip")
        norms = _watch_norms(trainer, observer)
        store.set_norms(norms)
    for method in waiting:
        observer.begin_method(method.name)
        result = _run(trainer, method, settings, norms, observer)
        store.add(result)
        observer.end_method(result)


def _count_stretches(method: Method, trainer: Trainer, settings: Settings) -> int:
    thresholds = () if method.searched is None else method.searched.values
    first = list_first(method, thresholds)
    rounds = [len(first), len(list_second(method, thresholds, first[-1]))]
    runs = [count * len(SELECTION_SEEDS) for count in rounds] if sum(rounds) > 1 else []
    return sum(trainer.plan.stretches(count, trainer.width) for count in (*runs, settings.seeds))


def _watch_norms(trainer: Trainer, observer: Bar | Silence) -> Norms:
    method = resolve([_WATCHED])[0]
    setting = Setting(method.rates[0])
    runs = [Run(seed, setting) for seed in SELECTION_SEEDS]
    outcome = trainer.prepare(method)(runs, "validation", False, observer.advance)
    norms = Norms.measure(outcome.norms)
    if norms is None:
        raise InputError(
            f"task {trainer.task.name}: no gradient of an unclipped run is finite and not zero; "
            f"its loss is {trainer.untrained['validation']:g} before training."
        )
    return norms


def _run(
    trainer: Trainer, method: Method, settings: Settings, norms: Norms, observer: Bar | Silence
) -> MethodResult:
    started = time.perf_counter()
    train = trainer.prepare(method)
    searched = method.searched
    thresholds = () if searched is None else searched.resolve(norms, trainer.functional.sizes)

    def try_settings(some: Sequence[Setting]) -> np.ndarray:
        runs = [Run(seed, setting) for setting in some for seed in SELECTION_SEEDS]
        outcome = train(runs, "validation", False, observer.advance)
        return outcome.loss[:, -1].reshape(-1, len(SELECTION_SEEDS))

    tried = list_first(method, thresholds)
    losses = np.zeros((0, 0))
    best = 0
    if len(tried) > 1 or len(set(thresholds)) > 1:
        untrained = trainer.untrained["validation"]
        losses = try_settings(tried)
        more = list_second(method, thresholds, tried[choose(losses, untrained)])
        if more:
            losses, tried = np.concatenate([losses, try_settings(more)]), [*tried, *more]
        best = choose(losses, untrained)
    outcome = train(
        [Run(seed, tried[best]) for seed in settings.test_seeds], "test", True, observer.advance
    )
    fraction = outcome.clip_fraction
    return MethodResult(
        method=method.name,
        plain=method.plain,
        argument=None if searched is None else searched.argument,
        settings=tuple((setting.rate, setting.threshold) for setting in tried),
        validation_loss=_rows(losses),
        chosen=best,
        python=method.write(*tried[best]),
        seeds=settings.test_seeds,
        points=trainer.plan.points,
        scores={name: _rows(values) for name, values in outcome.scores.items()},
        # A run that diverged at its first step may have recorded no threshold.
        clip_fraction=None
        if fraction is None or np.isnan(fraction).all()
        else tuple(map(float, np.nan_to_num(fraction))),
        seconds=round(time.perf_counter() - started, 2),
    )


def _rows(matrix: Any) -> tuple[tuple[float, ...], ...]:
    """Convert a matrix to tuples of numbers of six digits, as they are stored."""
    return tuple(tuple(float(f"{value:.6g}") for value in row) for row in matrix)
