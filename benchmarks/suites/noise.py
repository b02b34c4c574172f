"""Measures the noise of gradients of our own runs: is it in the norm, or in single entries?

At a few points of a run the parameters are held, and gradients of many batches are drawn. Were the
noise a common size times normal entries, dividing each draw by its size would leave normal entries;
were its entries heavy one by one, the sizes would hardly differ.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.stats import t as student

import clipax
from benchmarks import norms
from benchmarks.harness.records import Column, Row
from benchmarks.harness.suite import Suite, count
from benchmarks.runs import Run, adamw, make_run, train
from clipax.diagnostics import tail_index, tail_shares
from clipax.lab._compare.tasks.choose import BATCH_SIZES, make_task
from clipax.lab._compare.tasks.data import BUILT_IN
from clipax.lab._compare.tasks.task import Task
from clipax.lab._compare.tasks.text import make_text_task

PLACES = {"begin": 0.02, "middle": 0.2, "end": 0.9}
"""Where along a run the noise is looked at, as shares of its steps."""

ENTRIES = 5_000
"""Entries that are looked at one by one, evenly spread over all."""

HEAVY = 1.25
"""A part counts where its interval lies above this multiple of a normal law's fourth moment."""

GROUPS = 20
"""Groups of draws that are left out in turn, for the interval of a part."""


class Looked(NamedTuple):
    """A run whose noise is looked at.

    Attributes:
      name: What tables call it.
      task: What is trained.
      batch_size: Examples or sequences in a batch.
      built_in: Whether it is a task of `clipax compare`, at its own batch size and model.
    """

    name: str
    task: Task
    batch_size: int
    built_in: bool = False


def list_runs() -> list[Looked]:
    """Lists the built-in tasks, and the text at other batch sizes, depths and widths."""
    own = BATCH_SIZES["text"]
    looked = [
        Looked("text", make_task("text", batch_size=size), size, size == own)
        for size in (2, own, 32)
    ]
    looked += [
        Looked(f"text, {layers} layer{'s' * (layers > 1)}", make_text_task(own, layers=layers), own)
        for layers in (1, 4)
    ]
    # As in the notebook that trains a transformer.
    looked += [
        Looked("text, twice as wide", make_text_task(size, width=64, length=64), size)
        for size in (own, 32)
    ]
    own = BATCH_SIZES["examples"]
    looked += [
        Looked("digits", make_task("digits", batch_size=size), size, size == own)
        for size in (8, own, 128)
    ]
    looked.append(Looked("digits, cnn", make_task("digits", "cnn"), own, True))
    looked += [Looked(name, make_task(name), own, True) for name in BUILT_IN if name != "digits"]
    return looked


def describe(gradients: np.ndarray) -> Row:
    """Describes the noise of gradients: the tails of its norm and of its entries.

    The fourth moment of the noise, over a normal law's, is split into a part of the norm and one of
    the entries. A part is heavy where its 95 % interval lies above `HEAVY`, and perhaps heavy where
    `HEAVY` is within.

    Args:
      gradients: One in each row, at the same parameters; entries that never change are left out.
    """
    sizes = np.linalg.norm(gradients - gradients.mean(axis=0), axis=1).astype(float)
    picked = gradients[:, :: -(-gradients.shape[1] // ENTRIES)].astype(float)
    scaled = _standardize(picked)
    parts = bound_parts(picked)
    heavy = [
        name if low > HEAVY else f"perhaps {name}"
        for name, (_, low, high) in parts.items()
        if high > HEAVY
    ]
    shares = tail_shares(sizes)
    moderate, extreme = count_outliers(scaled)
    return {
        "largest": float(sizes.max() / np.median(sizes)),
        "norm tail": _write_tail(sizes),
        "norms out": shares.moderate,
        "norms far out": shares.extreme,
        "largest entry": float(np.abs(scaled).max()),
        "entry tail": _estimate_tail(np.abs(scaled)),
        "entries out": moderate,
        "entries far out": extreme,
        **{f"in {name}": _write_interval(*part, "{:.2f}") for name, part in parts.items()},
        "heavy": " and ".join(heavy) or "neither",
    }


def bound_parts(gradients: np.ndarray) -> dict[str, tuple[float, float, float]]:
    """Estimates the two parts of the noise's fourth moment, with 95 % intervals.

    The intervals are of a jackknife over groups of draws. (A bootstrap's lie too low: draws that
    are drawn again have lighter tails.) Of a heavy part some 90 % hold that of the law, in a test
    with lognormal sizes; of a law without a fourth moment none does.

    Args:
      gradients: One in each row, `GROUPS` or more.

    Returns:
      For the norm and the entries: the part, and the ends of its interval.
    """
    groups = np.arange(len(gradients)) % GROUPS
    whole = np.log(split_moment(gradients))
    others = np.log([split_moment(gradients[groups != left_out]) for left_out in range(GROUPS)])
    deviation = (GROUPS - 1) ** 0.5 * others.std(axis=0)
    room = student.ppf(0.975, GROUPS - 1) * deviation
    ends = np.exp([whole, whole - room, whole + room]).T.tolist()
    return {name: tuple(some) for name, some in zip(("norm", "entries"), ends, strict=True)}


def split_moment(gradients: np.ndarray) -> tuple[float, float]:
    """Splits the noise's fourth moment, over a normal law's: a part of the norm, one of entries."""
    scaled = _standardize(gradients)
    size = np.sqrt(np.mean(scaled**2, axis=1, keepdims=True))  # of a draw, every entry alike
    squares = (scaled / size) ** 2
    in_entries = np.mean(np.mean(squares**2, axis=0) / np.mean(squares, axis=0) ** 2) / 3
    return float(np.mean(size**4) / np.mean(size**2) ** 2), float(in_entries)


def _standardize(gradients: np.ndarray) -> np.ndarray:
    """Takes means away and divides by deviations; entries that never change are left out."""
    noise = gradients - gradients.mean(axis=0)
    spread = noise.std(axis=0)
    return np.asarray(noise[:, spread > 0] / spread[spread > 0])


def count_outliers(columns: np.ndarray) -> tuple[float, float]:
    """Returns which share of the entries lies 1.5, and 3, interquartile ranges out.

    Each column has quartiles of its own. Of the two sides the mean is taken, so that a normal law
    gives the same .35 % and 1.2e-6 as for norms.
    """
    low, high = np.quantile(columns, (0.25, 0.75), axis=0)
    out = [
        np.mean((columns > high + reach * (high - low)) | (columns < low - reach * (high - low)))
        for reach in (1.5, 3.0)
    ]
    return float(out[0] / 2), float(out[1] / 2)


def _write_tail(sizes: np.ndarray) -> str | None:
    """Writes the tail index with its 95 % interval, as for logged norms; None without a tail."""
    advice = clipax.advise(sizes)
    if not advice.tail_index or advice.tail_interval is None or math.isinf(advice.tail_index):
        return None
    return _write_interval(advice.tail_index, *advice.tail_interval, "{:.2g}")


def _write_interval(value: float, low: float, high: float, form: str) -> str:
    return f"{form} ({form} to {form})".format(value, low, high)


def _estimate_tail(sizes: np.ndarray) -> float | None:
    """Returns the tail index, None where no size stands out."""
    index = float(tail_index(jnp.asarray(sizes, jnp.float32).ravel()))
    return index if math.isfinite(index) else None


def draw(run: Run, params: Any, draws: int) -> dict[str, np.ndarray]:
    """Draws gradients of different batches at the same parameters.

    Returns:
      For each part of the model, as `split_parts` names them, a gradient in each row.
    """
    gradient = jax.jit(lambda batch: split_parts(jax.grad(run.loss)(params, batch)))
    drawn = [gradient(batch) for batch in islice(run.batches(1), draws)]
    return {name: np.stack([one[name] for one in drawn]) for name in drawn[0]}


def split_parts(tree: Any) -> dict[str, jax.Array]:
    """Splits a model into vectors: each block, and what is before and behind the blocks."""
    parts: dict[str, list[jax.Array]] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        name, *others = (str(getattr(one, "key", "")) for one in path)
        parts.setdefault(f"block {others[0]}" if name == "blocks" else name, []).append(
            leaf.ravel()
        )
    return {name: jnp.concatenate(leaves) for name, leaves in parts.items()}


def _look(one: Looked, steps: int, draws: int) -> tuple[list[Row], norms.Log]:
    run = make_run(one.task)
    seen: dict[str, Any] = {}
    wanted = {round(share * steps): place for place, share in PLACES.items()}

    def observe(step: int, params: Any, state: Any) -> None:
        if step in wanted:
            seen[wanted[step]] = params

    found = train(run, adamw(run, steps), steps, observe)
    title = f"{one.name}, batch {one.batch_size}"
    about: Row = {"of": title, "task": one.name if one.built_in else None}
    rows: list[Row] = []
    for place, params in seen.items():
        drawn = draw(run, params, draws)
        whole = np.concatenate(list(drawn.values()), axis=1)
        rows.append(about | {"place": place} | describe(whole))
        if place == "middle" and one.built_in and len(drawn) > 1:
            rows += _describe_parts(about | {"place": place}, drawn)
    words = f"AdamW, batches of {one.batch_size}, rate {run.rate:g} after 10 % of warm-up, cosine"
    stretch = norms.Stretch(0, found["grad_norm"])
    return rows, norms.Log(title, run.name, words, 1, (stretch,))


def _describe_parts(about: Row, drawn: Mapping[str, np.ndarray]) -> Iterator[Row]:
    for part, gradients in drawn.items():
        yield about | {"part": part} | describe(gradients)


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
        yield {"of": name} | describe(noise)


def measure(options: argparse.Namespace) -> Iterator[list[Row]]:
    """Trains, and looks at the noise on the way."""
    yield list(_controls(options.draws))
    logs = []
    for one in list_runs():
        rows, log = _look(one, options.steps, options.draws)
        logs.append(log)
        if options.write_norms:
            norms.save(norms.OWN, logs)
        yield rows


def add_options(add: Any) -> None:
    """Adds the command's options."""
    add("--steps", type=count, default=400, help="of each run; default 400")
    add("--draws", type=_count_draws, default=500, help="gradients at each place; default 500")
    add("--write-norms", action="store_true", help="into norms/own.json")


def _count_draws(text: str) -> int:
    if (draws := count(text)) < 2 * GROUPS:
        raise argparse.ArgumentTypeError(f"must be at least {2 * GROUPS}, got {draws}")
    return draws


COLUMNS = (
    Column("noise of", "of"),
    Column("part", "part"),
    Column("of the run", "place"),
    Column("largest norm", "largest", "{:.1f}x"),
    Column("tail of norms", "norm tail"),
    Column("out", "norms out", "{:.1%}"),
    Column("far out", "norms far out", "{:.1%}"),
    Column("largest entry", "largest entry", "{:.0f} sd"),
    Column("of entries", "entry tail", "{:.1f}"),
    Column("out", "entries out", "{:.1%}"),
    Column("far out", "entries far out", "{:.1%}"),
    Column("in the norm", "in norm"),
    Column("in entries", "in entries"),
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
