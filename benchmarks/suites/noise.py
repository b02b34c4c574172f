"""Measures the noise of gradients of our own runs: is it in the norm, or in single entries?

At a few points of a run the parameters are held, and gradients of many batches are drawn. Were the
noise a common size times normal entries, dividing each draw by its size would leave normal entries;
were its entries heavy one by one, the sizes would hardly differ.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from benchmarks import norms
from benchmarks.harness.records import Column, Row
from benchmarks.harness.suite import Suite, count
from benchmarks.runs import TASKS, Task, train
from benchmarks.runs.task import adamw
from clipax.diagnostics import tail_index

BATCH_SIZES = {"text": (8, 32), "digits": (8, 32, 128)}
PLACES = (0.02, 0.2, 0.9)
"""Where along a run the noise is looked at, as shares of its steps."""

ENTRIES = 20_000
"""Entries that are looked at one by one, evenly spread over all."""

HEAVY = 1.25
"""A part counts from this share of a normal law's fourth moment on."""


def split_moments(gradients: np.ndarray) -> Row:
    """Splits the fourth moment of the noise into a part of the norm and one of the entries.

    Args:
      gradients: One in each row, at the same parameters; entries that never change are left out.
    """
    noise = gradients - gradients.mean(axis=0)
    sizes = np.linalg.norm(noise, axis=1).astype(float)
    noise = noise[:, :: -(-noise.shape[1] // ENTRIES)].astype(float)
    spread = noise.std(axis=0)
    scaled = noise[:, spread > 0] / spread[spread > 0]
    size = np.sqrt(np.mean(scaled**2, axis=1, keepdims=True))  # of a draw, every entry alike
    in_norm = np.mean(size**4) / np.mean(size**2) ** 2
    inner = scaled / size
    in_entries = np.mean(np.mean(inner**4, axis=0) / np.mean(inner**2, axis=0) ** 2) / 3
    parts = {"norm": in_norm, "entries": in_entries}
    heavy = [name for name, part in parts.items() if part > HEAVY]
    return {
        "largest": float(sizes.max() / np.median(sizes)),
        "largest entry": float(np.abs(scaled).max()),
        "norm tail": _estimate_tail(sizes),
        "entry tail": _estimate_tail(np.abs(scaled)),
        "in norm": float(in_norm),
        "in entries": float(in_entries),
        "heavy": " and ".join(heavy) or "neither",
    }


def _estimate_tail(sizes: np.ndarray) -> float | None:
    """Returns the tail index, None where no size stands out."""
    index = float(tail_index(jnp.asarray(sizes, jnp.float32).ravel()))
    return index if math.isfinite(index) else None


def draw(task: Task, params: Any, draws: int) -> np.ndarray:
    """Draws gradients of different batches at the same parameters."""
    gradient = jax.jit(lambda batch: ravel_pytree(jax.grad(task.loss)(params, batch))[0])
    return np.stack([gradient(task.batch(10**6 + one)) for one in range(draws)])


def _measure_run(name: str, batch_size: int, steps: int, draws: int) -> tuple[list[Row], norms.Log]:
    task = TASKS[name](batch_size)
    seen: dict[int, Any] = {}
    wanted = {round(place * steps) for place in PLACES}

    def observe(step: int, params: Any, state: Any) -> None:
        if step in wanted:
            seen[step] = params

    found = train(task, adamw(task, steps), steps, observe)
    title = f"{name}, batch {batch_size}"
    rows: list[Row] = [
        {"of": title, "step": step} | split_moments(draw(task, params, draws))
        for step, params in seen.items()
    ]
    about = f"AdamW, batches of {batch_size}, rate {task.rate:g} after 10 % of warm-up, cosine"
    stretch = norms.Stretch(0, found["grad_norm"])
    return rows, norms.Log(title, name, about, 1, (stretch,))


def _controls(draws: int) -> Iterator[Row]:
    """What normal entries give, and what a heavy size of all of them does."""
    random = np.random.default_rng(0)
    normal = random.standard_normal((draws, 10_000))
    heavy = random.pareto(1.5, (draws, 1)) + 1
    entries = random.standard_t(2.5, (draws, 10_000))
    for name, noise in {
        "normal entries": normal,
        "the same, times a Pareto size": normal * heavy,
        "Student's t in every entry": entries,
    }.items():
        yield {"of": name} | split_moments(noise)


def measure(options: argparse.Namespace) -> Iterator[list[Row]]:
    """Trains, and looks at the noise on the way."""
    yield list(_controls(options.draws))
    logs = []
    for name, batch_sizes in BATCH_SIZES.items():
        for batch_size in batch_sizes:
            rows, log = _measure_run(name, batch_size, options.steps, options.draws)
            logs.append(log)
            if options.write_norms:
                norms.save(norms.OWN, logs)
            yield rows


def add_options(add: Any) -> None:
    """Adds the command's options."""
    add("--steps", type=count, default=400, help="of each run; default 400")
    add("--draws", type=count, default=150, help="gradients at each place; default 150")
    add("--write-norms", action="store_true", help="into norms/own.json")


COLUMNS = (
    Column("noise of", "of"),
    Column("step", "step"),
    Column("largest norm", "largest", "{:.1f}x"),
    Column("tail of norms", "norm tail", "{:.1f}"),
    Column("largest entry", "largest entry", "{:.0f} sd"),
    Column("of entries", "entry tail", "{:.1f}"),
    Column("in the norm", "in norm", "{:.2f}"),
    Column("in entries", "in entries", "{:.2f}"),
    Column("heavy in", "heavy"),
)

SUITE = Suite(
    "the noise of gradients: in the norm, or in single entries?",
    (),
    COLUMNS,
    measure,
    add_options=add_options,
    prepare=lambda options: {"draws": str(options.draws), "steps": str(options.steps)},
)
