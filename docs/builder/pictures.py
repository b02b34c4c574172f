"""Two pictures of each method: how large an update it makes of a gradient, and over a real run.

Both are measured on the method itself, with the arguments of its entry, at the time of the build.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import matplotlib as mpl
import numpy as np
import optax
from matplotlib.figure import Figure

import clipax
from benchmarks import norms
from benchmarks.suites.faults import subjects
from clipax.catalogue import Entry

__all__ = ["RUN", "draw", "read_run"]

RUN = "Qwen-VL navigation"
"""The run of `benchmarks/norms/public.json` that all pictures show: a start, then rare jumps."""
_SIZES = np.geomspace(1e-2, 1e2, 81).astype(np.float32)
_SHAPES = {"kernel": (6, 4), "bias": (4,)}
_GREY, _BLUE, _RED = "#9a9a9a", "#1f6fb4", "#c8503c"


class Measured(NamedTuple):
    """What a method did.

    Attributes:
      updates: Norm of the update at each step of the run.
      thresholds: The largest threshold that it recorded at each step; None where it records none.
      response: Norm of the update for gradients of the norms `_SIZES`, after the run.
    """

    updates: np.ndarray
    thresholds: np.ndarray | None
    response: np.ndarray


@cache
def read_run() -> np.ndarray:
    """Return the norms of the run, in units of the median of its last stretch."""
    stretches = next(log.stretches for log in norms.load(norms.PUBLIC) if log.name == RUN)
    joined = np.concatenate([stretch.norms for stretch in stretches])
    return (joined / np.median(stretches[-1].norms)).astype(np.float32)


def _measure(tx: optax.GradientTransformationExtraArgs) -> Measured:
    random = np.random.default_rng(0)
    params, direction = (
        {name: np.float32(random.normal(size=shape)) for name, shape in _SHAPES.items()}
        for _ in range(2)
    )
    length = np.sqrt(sum(np.sum(np.square(leaf)) for leaf in direction.values()))

    # Compiled once and without optimisations: it runs a few hundred times only.
    @partial(jax.jit, compiler_options={"xla_backend_optimization_level": "0"})
    def step(state: Any, size: float) -> tuple[Any, jax.Array, jax.Array | None]:
        gradient = {name: leaf * (size / length) for name, leaf in direction.items()}
        updates, state = tx.update(gradient, state, params)
        return state, optax.global_norm(updates), _read_threshold(state)

    state, told = tx.init(params), []
    for size in read_run():
        state, *one = step(state, size)
        told.append(one)
    updates, thresholds = zip(*told, strict=True)
    known = None if thresholds[0] is None else np.array(thresholds)
    return Measured(np.array(updates), known, np.array([step(state, size)[1] for size in _SIZES]))


def _read_threshold(state: Any) -> jax.Array | None:
    try:
        found = clipax.metrics(state)
    except ValueError:  # a method without telemetry
        return None
    values = [value for name, value in found.items() if name.split("/")[-1] == "threshold"]
    return jnp.max(jnp.stack(values)) if values else None


def draw(entry: Entry) -> dict[str, str]:
    """Draw the pictures of a method, as SVG, by what they show.

    They are two, so that a telephone shows one under the other, at full size.
    """
    measured, run = _measure(subjects()[f"clipax/{entry.name}"]()), read_run()
    is_optimizer = entry.kind == "optimizer"
    return {
        "response": _write(
            entry, partial(_draw_response, measured=measured, with_diagonal=not is_optimizer)
        ),
        "run": _write(
            entry, partial(_draw_run, measured=measured, run=run, is_optimizer=is_optimizer)
        ),
    }


def _write(entry: Entry, draw_on: Callable[[Any], None]) -> str:
    with mpl.rc_context({"svg.hashsalt": entry.name, "font.size": 9, "svg.fonttype": "path"}):
        figure = Figure(figsize=(4, 2.9), layout="constrained")
        draw_on(figure.subplots())
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata={"Date": None})
    return file.getvalue()


def _draw_response(axes: Any, measured: Measured, *, with_diagonal: bool) -> None:
    if with_diagonal:
        axes.plot(_SIZES, _SIZES, ":", color=_GREY, label="unchanged")
        axes.legend(frameon=False)
    seen = measured.response > 0
    axes.plot(_SIZES[seen], measured.response[seen], color=_BLUE)
    axes.set(xscale="log", yscale="log", xlabel="norm of the next gradient")
    # A decade at least: what hardly changes is to look so.
    low, high = axes.get_ylim()
    axes.set_ylim(min(low, high / 10), high)
    axes.set_title("the update after the run", loc="left")
    axes.set_ylabel("norm of the update")


def _draw_run(axes: Any, measured: Measured, run: np.ndarray, is_optimizer: bool) -> None:
    axes.plot(run, color=_GREY, lw=0.9, label="gradient")
    updates, label = measured.updates, "update"
    if is_optimizer:  # its rate is no part of the method
        updates = updates * (np.median(run) / np.median(updates))
        label = "update, rescaled"
    axes.plot(np.where(updates > 0, updates, np.nan), color=_BLUE, lw=1.1, label=label)
    # Infinite until a method has seen enough norms.
    if measured.thresholds is not None:
        shown = np.where(measured.thresholds < 1e3, measured.thresholds, np.nan)
        if np.isfinite(shown).any():
            axes.plot(shown, color=_RED, lw=1.1, ls="--", label="threshold")
    axes.set(yscale="log", xlabel="step", xlim=(0, len(run) - 1))
    axes.set_title("norms over the run", loc="left")
    axes.legend(frameon=False)
