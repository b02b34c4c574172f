"""Simulations: any optimizers on a problem under noise, as quantiles over very many runs."""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

import jax.numpy as jnp
import numpy as np
import optax

from clipax import _validate
from clipax._typing import Array
from clipax.lab._simulate.chunks import compile_tile, run_chunks, tile_width
from clipax.lab._simulate.program import BLOCK, Law, Problem, tile_program
from clipax.lab._simulate.progress import show_bar
from clipax.lab._simulate.result import Simulation, summarise
from clipax.lab._simulate.words import step_keys
from clipax.measure import global_norm

__all__ = ["simulate"]

Optimizer: TypeAlias = optax.GradientTransformation | Callable[..., optax.GradientTransformation]
Measure = Callable[[Array], Array]


def simulate(
    optimizers: Mapping[str, Optimizer],
    problem: Problem,
    law: Law | None,
    *,
    runs: int,
    record: Sequence[int],
    quantiles: Sequence[float] = (0.1, 0.5, 0.9, 0.99),
    grid: Mapping[str, Sequence[float]] | None = None,
    seed: int = 0,
    average: bool = False,
    measure: str | Callable[[Array], Array] = "suboptimality",
    confidence: float = 0.95,
    chunk: int | None = None,
    progress: bool = True,
    path: str | os.PathLike[str] | None = None,
) -> Simulation:
    """Run optimizers very many times under noise and compute quantiles over the runs.

    For claims that hold with high probability: the .999 quantile needs 10^5 runs. No trajectory is
    kept: memory grows with the runs and the recorded steps, not with the steps.

        g_t = grad f(x_t) + xi_t,
        x_{t+1} = x_t + u(g_t, x_t)

    with `f` the `problem`, `u` the optimizer and independent `xi_t` of the `law` in each
    coordinate.

    Args:
      optimizers: By name, gradient transformations or functions that make one from the
        hyper-parameters of `grid`, given by name.
      problem: The problem: `start`, `gradient`, `value`, `optimum_value`.
      law: The law of the noise: `words`, `from_words`; None for no noise.
      runs: Number of runs; at least 1.
      record: The steps after which to record, increasing; 0 is before the first. The last is the
        number of steps.
      quantiles: The levels, in (0, 1).
      grid: Values by name of hyper-parameter: functions in `optimizers` are run for all
        combinations, in one compiled program and on the same noise.
      seed: Of the noise; in [0, 2^32).
      average: Whether to measure the mean of the iterates `x_1, ..., x_t` instead of the last
        (before the first step the two are the same).
      measure: `"suboptimality"` (default): `f(x) - f*`; `"value"`; `"gradient_norm"`; or a function
        of an iterate.
      confidence: Of the quantiles' intervals, in (0, 1).
      chunk: Runs that a core takes at a time, rounded up to whole tiles, which are as wide as stays
        in its cache; None (default) for one tile.
      progress: Whether to show a bar, on a terminal.
      path: A file to save the results in, anew after each optimizer; None (default) for none.

    Returns:
      The results; `plot` draws them, `save` keeps them.

    Raises:
      ValueError: An argument is out of its range, or needs more than 2^32 random words a step.

    Notes:
      The noise of a run is a function of seed, step, run and coordinate alone: all optimizers meet
      the same noise. All runs are computed by one program for a tile of fixed width: to the last
      bit, a run is the same whatever the chunk, the number of runs and that of cores. A run whose
      measure is not finite counts as infinite. Memory: 4 bytes for each run, recorded step and
      point of the grid, beside a few megabytes for each core.

    Example:
      >>> import dataclasses, jax.numpy as jnp, clipax
      >>> from clipax.lab import simulate
      >>> @dataclasses.dataclass(frozen=True)
      ... class Parabola:
      ...     name = "parabola"
      ...     start = jnp.ones(1)
      ...     optimum_value = 0.0
      ...     def value(self, x):
      ...         return jnp.sum(x**2) / 2
      ...     def gradient(self, x):
      ...         return x
      >>> clipped = lambda learning_rate: clipax.clip_sgd(learning_rate, 0.25)
      >>> simulation = simulate(
      ...     {"clip": clipped}, Parabola(), None, runs=1, record=[0, 2], quantiles=[0.5],
      ...     grid={"learning_rate": [1.0, 2.0]},
      ... )
      >>> for curve in simulation.curves:
      ...     print(curve.label, curve.quantiles)
      clip, learning_rate 1 ((0.5,), (0.125,))
      clip, learning_rate 2 ((0.5,), (0.0,))

    References:
      Common random numbers: P. Glasserman, D. D. Yao, "Some guidelines and guarantees for common
      random numbers", Management Science 38, 1992.
    """
    runs = _validate.index("runs", runs, minimum=1, maximum=None)
    if _validate.index("seed", seed, maximum=None) >= 2**32:
        raise ValueError(f"`seed` must be below 2^32, got {seed}.")
    for level in quantiles:
        _validate.within("quantiles", level, 0, 1, brackets="()")
    _validate.within("confidence", confidence, 0, 1, brackets="()")
    steps = _check_record(record)
    dim = _check_start(problem)
    name, function = _resolve_measure(measure, problem)
    points = _combine_grid(grid or {})
    made = {name: _is_maker(name, optimizer) for name, optimizer in optimizers.items()}
    width = {
        method: tile_width(dim * (len(points) if made[method] else 1)) for method in optimizers
    }
    chunk = 1 if chunk is None else _validate.index("chunk", chunk, minimum=1)
    pairs = 0 if law is None else -(-law.words // 2)
    if (runs + max(width.values(), default=0)) * dim * pairs >= 2**32:
        raise ValueError(f"`runs` must need fewer than 2^32 random words a step, got {runs}.")

    result = Simulation(
        problem=problem.name,
        law="no noise" if law is None else str(law),
        measure=name,
        runs=runs,
        record=steps,
        levels=tuple(float(level) for level in quantiles),
        confidence=float(confidence),
        seed=int(seed),
        average=bool(average),
        curves=(),
    )
    keys = step_keys(np.uint32(seed), steps[-1] + BLOCK)
    intervals = jnp.array([(0, steps[0]), *itertools.pairwise(steps)], jnp.int32)
    with show_bar(progress) as bar:
        for method, optimizer in optimizers.items():
            chosen = points if made[method] else [{}]
            vectors = {
                name: jnp.array([point[name] for point in chosen], jnp.float32)
                for name in chosen[0]
            }
            program = tile_program(
                partial(_make, optimizer),
                problem,
                law,
                function,
                width=width[method],
                average=result.average,
                points=vectors,
                count=len(chosen),
            )
            values = run_chunks(
                compile_tile(program, keys, intervals, vectors),
                (len(steps), len(chosen)),
                runs=runs,
                width=width[method],
                chunk=chunk,
                advance=partial(bar, method),
            )
            curves = [
                summarise(method, point, values[:, place], result.levels, result.confidence)
                for place, point in enumerate(chosen)
            ]
            result = dataclasses.replace(result, curves=(*result.curves, *curves))
            if path is not None:
                result.save(path)
    return result


def _make(optimizer: Any, parameters: dict[str, Array]) -> optax.GradientTransformation:
    return optimizer if isinstance(optimizer, tuple) else optimizer(**parameters)


def _is_maker(name: str, optimizer: Any) -> bool:
    """Check that `optimizer` is one or makes one; true if it makes one."""
    if isinstance(optimizer, optax.GradientTransformation):
        return False
    if not callable(optimizer):
        raise TypeError(
            f"`optimizers` must be gradient transformations or functions that make one, got "
            f"{optimizer!r} for {name!r}."
        )
    return True


def _check_record(record: Sequence[int]) -> tuple[int, ...]:
    steps = tuple(_validate.index("record", step) for step in record)
    if not steps or any(a >= b for a, b in itertools.pairwise(steps)):
        raise ValueError(f"`record` must be steps in increasing order, at least one, got {steps}.")
    if steps[-1] + BLOCK >= 2**31:
        raise ValueError(f"`record` must end before step 2^31, got {steps[-1]}.")
    return steps


def _check_start(problem: Problem) -> int:
    shape = np.shape(problem.start)
    if len(shape) != 1 or not shape[0]:
        raise ValueError(f"`problem.start` must be a vector, got an array of shape {shape}.")
    return shape[0]


def _combine_grid(grid: Mapping[str, Sequence[float]]) -> list[dict[str, float]]:
    """List all combinations of the hyper-parameters."""
    for name, values in grid.items():
        if not len(values):
            raise ValueError(f"`grid` must have a value for every name, got none for {name!r}.")
        for value in values:
            _validate.number("grid", value, "made of numbers", lambda value: value == value)
    combinations = itertools.product(*(map(float, values) for values in grid.values()))
    return [dict(zip(grid, values, strict=True)) for values in combinations]


def _resolve_measure(measure: str | Measure, problem: Problem) -> tuple[str, Measure]:
    """Find the measure's name and function."""
    if callable(measure):
        return getattr(measure, "__name__", "measure"), measure
    _validate.one_of("measure", measure, ("suboptimality", "value", "gradient_norm"))
    if measure == "gradient_norm":
        return "gradient norm", lambda x: global_norm(problem.gradient(x))
    if measure == "value":
        return measure, problem.value
    optimum = problem.optimum_value
    if optimum is None:
        raise ValueError(
            "`measure` must not be 'suboptimality' where the problem's optimum value is unknown; "
            "choose 'value' or 'gradient_norm'."
        )
    return measure, lambda x: problem.value(x) - optimum
