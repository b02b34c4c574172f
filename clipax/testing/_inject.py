"""Fault injection into any transformation."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import numpy as np

from clipax import _validate
from clipax.testing._faults import FAULTS, Fault
from clipax.testing._gradients import AFTERMATH, Lane, Recording, default_params, record
from clipax.testing._judge import clips, judge
from clipax.testing._report import BREAKS, NOT_APPLICABLE, Report, Row
from clipax.testing._runs import StepByStep, Trace, run

__all__ = ["inject_faults"]


class _Task(NamedTuple):
    """One fault, for `length` steps from `start` on."""

    fault: Fault
    when: str
    start: int
    length: int

    def lane(self, recording: Recording) -> Lane:
        """Make the run with the fault."""
        return recording.inject(self.fault, self.start, self.length)


def inject_faults(
    transformation: Any,
    params: Any = None,
    *,
    faults: str | Fault | Iterable[str | Fault] | None = None,
    steps: int = 200,
    early: int = 3,
    late: int = 150,
    norm: float = 1.0,
    tolerance: float = 0.2,
    seed: int = 0,
) -> Report:
    """Inject faults into the gradients of a transformation and report whether it recovers.

    Each fault is injected in the first step, early, in the warm-up, and late, in separate runs. The
    updates after it are compared with two runs, one with an ordinary step in its place and one that
    leaves the step out. They are equal if they differ by less than `tolerance`, relatively, from
    the nearer of the two, entry by entry. After `steps` ordinary steps a second spike of a hundred
    times the typical norm shows whether a clip still clips. It is cut if the ratio of update to
    gradient is less than a fifth of the median of this ratio in the 20 steps before. Gradients are
    recorded: they do not depend on the parameters, which do not move.

    Args:
      transformation: An optax gradient transformation or optimizer (all runs are compiled into
        one scan, vectorised over the faults), or a `StepByStep`.
      params: A tree of floating-point arrays; None (default) for a dense layer and a scalar.
      faults: One or several names in `FAULTS`, or `Fault` objects; None (default) for all of
        `FAULTS`.
      steps: Ordinary steps after a fault, at least 20; default 200.
      early: Step of the early fault, 0-based; default 3. With 0 it is the fault of the first step.
      late: Step of the late fault, after `early`; default 150.
      norm: Median norm of the ordinary gradients, positive; default 1. Choose it so that the
        method clips some of them and lets others pass.
      tolerance: Relative difference below which updates are equal, in (0, 1); default 0.2. A
        memory with a time constant of a hundred steps falls below it within the 200.
      seed: Seed of the gradients and the default parameters.

    Returns:
      A `Report`: `report.rows`, `report.verdict`, `report.passed(...)`, `str(report)`.

    Example:
      A clip at the root mean square of all norms before, into which spikes and NaN enter:

      >>> import jax, jax.numpy as jnp, optax, clipax
      >>> def update(updates, state, params=None):
      ...     total, count = state
      ...     norm = optax.tree.norm(updates)
      ...     threshold = jnp.where(count > 0, jnp.sqrt(total / jnp.maximum(count, 1)), norm)
      ...     factor = jnp.minimum(1, threshold / norm)
      ...     return jax.tree.map(lambda u: factor * u, updates), (total + norm**2, count + 1)
      >>> mine = optax.GradientTransformation(lambda params: (jnp.zeros(()), jnp.zeros(())), update)
      >>> report = clipax.testing.inject_faults(mine, faults=["nan", "1e-38", "spike"])
      >>> report.clips, report.verdict
      (True, 'breaks')
      >>> for row in report.rows:
      ...     print(row.fault, row.when, row.verdict, row.clipping)
      nan first breaks does not clip
      nan early breaks does not clip
      nan late breaks does not clip
      1e-38 first breaks clips
      1e-38 early recovers clips
      1e-38 late recovers clips
      spike first dies does not clip
      spike early dies does not clip
      spike late dies does not clip
    """
    steps = _validate.index("steps", steps, minimum=20)
    early = _validate.index("early", early)
    late = _validate.index("late", late, minimum=early + 1)
    _validate.positive("norm", norm)
    _validate.within("tolerance", tolerance, 0, 1, brackets="()")
    seed = _validate.index("seed", seed, maximum=None)
    if not isinstance(transformation, StepByStep):
        _validate.transformation("transformation", transformation, or_else=" or a `StepByStep`")
    if faults is None:
        faults = FAULTS
    elif isinstance(faults, str | Fault):
        faults = [faults]
    chosen = [_look_up(fault) for fault in faults]
    if not chosen:
        raise ValueError("`faults` must name at least one fault, got none.")
    params = default_params(seed) if params is None else jax.tree.map(np.asarray, params)
    if not sum(leaf.size for leaf in jax.tree.leaves(params)):
        raise ValueError("`params` must have at least one entry, got none.")
    longest = max((fault.length for fault in chosen), default=1)
    count = late + 2 * longest + steps + AFTERMATH
    recording = record(params, count, steps=steps, norm=norm, seed=seed)

    tasks = [
        _Task(fault, when, start, length)
        for fault in chosen
        for when, start, length in _list_times(fault, early, late)
    ]
    rows: dict[_Task, Row] = {}
    clipping = []
    for dtype in dict.fromkeys(fault.dtype for fault in chosen):
        batch = [task for task in tasks if task.fault.dtype == dtype]
        cast = jax.tree.map(lambda leaf, to=dtype: leaf.astype(to or leaf.dtype), params)
        try:
            judged, cuts = _judge_tasks(transformation, cast, recording, batch, tolerance)
        except Exception as error:
            if dtype is None:
                raise
            judged, cuts = {task: _report_exception(task, error) for task in batch}, False
        rows |= judged
        clipping.append(cuts)
    return Report(tuple(rows[task] for task in tasks), clipping[0])


def _look_up(fault: str | Fault) -> Fault:
    if isinstance(fault, Fault):
        return fault
    _validate.one_of("faults", fault, FAULTS)
    return FAULTS[fault]


def _list_times(fault: Fault, early: int, late: int) -> list[tuple[str, int, int]]:
    """List the times of a fault: its name, the first step, the number of steps."""
    if fault.apply is None:
        return [("always", 0, 0)]
    first = [("first", 0, fault.length)] if early else []
    return [*first, ("early", early, fault.length), ("late", late, fault.length)]


def _judge_tasks(
    transformation: Any, params: Any, recording: Recording, tasks: list[_Task], tolerance: float
) -> tuple[dict[_Task, Row], bool]:
    """Judge faults with one type of gradients; second, whether the method clips at all."""
    lanes: dict[Any, Lane] = {}
    for place in dict.fromkeys((task.start, task.length) for task in tasks):
        lanes["undisturbed", *place] = recording.keep_ordinary(*place)
        lanes["without", *place] = recording.leave_out(*place)
    lanes |= {task: task.lane(recording) for task in tasks if task.fault.prepare is None}
    runs = _run(transformation, params, lanes)
    undisturbed = next(iter(runs.values()))
    rows = {}
    for task in tasks:
        if task.fault.prepare is not None:
            try:
                lane = {task: task.lane(recording)}
                runs |= _run(transformation, task.fault.prepare(params), lane)
            except Exception as error:
                rows[task] = _report_exception(task, error)
                continue
        references = [runs[kind, task.start, task.length] for kind in ("undisturbed", "without")]
        rows[task] = judge(task.fault.name, task.when, runs[task], references, tolerance)
    return rows, clips(*undisturbed)


def _run(transformation: Any, params: Any, lanes: dict[Any, Lane]) -> dict[Any, tuple[Lane, Trace]]:
    traces = run(transformation, params, [lane.gradients for lane in lanes.values()])
    return {key: (lane, trace) for (key, lane), trace in zip(lanes.items(), traces, strict=True)}


def _report_exception(task: _Task, error: Exception) -> Row:
    """Make the row of a fault under which the transformation raises."""
    words = f"{type(error).__name__}: {error}".splitlines()[0]
    return Row(
        fault=task.fault.name,
        when=task.when,
        verdict=BREAKS,
        update_finite=False,
        state_finite=False,
        state_kept=None,
        difference=float("inf"),
        steps=None,
        clipping=NOT_APPLICABLE,
        note=words,
    )
