"""Measures the programs of the cases on one tree: counts, compile times and run times."""

from __future__ import annotations

import os
import platform
import subprocess
import time
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import clipax
from benchmarks import hlo, trees
from benchmarks.cases import CASES, CLIPAX, Case
from benchmarks.timing import Ratio, Runner, interleave, median_ratio, pool

__all__ = [
    "DTYPES",
    "TWIN",
    "Compiled",
    "Record",
    "compile_step",
    "environment",
    "measure",
    "pool_repeats",
]

DTYPES = {"f32": jnp.float32, "bf16": jnp.bfloat16}
TWIN = "clipax, again"


@dataclass(frozen=True)
class Record:
    """One program on one tree.

    Attributes:
      tree: Name of the tree.
      dtype: Name of the dtype.
      case: Name of the case.
      program: Role of the program within the case.
      traffic: Bytes accessed by an ordinary step, in units of the parameters' size P.
      temporaries: Bytes of temporaries, in the same units.
      reductions: Number of reductions, conditional branches apart.
      conditionals: Number of conditionals.
      compile_seconds: Time for tracing, lowering and compiling.
      step_seconds: Median time of a step.
      ratios: Times over those of the case's other programs, by role.
      compile_ratios: Compile times over those of the other programs, by role.
    """

    tree: str
    dtype: str
    case: str
    program: str
    traffic: float
    temporaries: float
    reductions: int
    conditionals: int
    compile_seconds: float
    step_seconds: float
    ratios: dict[str, Ratio]
    compile_ratios: dict[str, Ratio]


def measure(
    tree: str,
    dtype: str,
    cases: Sequence[str],
    *,
    rounds: int,
    scale: float,
    seed: int,
    say: Callable[[str], None],
) -> list[Record]:
    """Compiles and times the programs of several cases on one tree.

    Args:
      tree: A name in `trees.SHAPES`.
      dtype: A name in `DTYPES`.
      cases: Names in `CASES`.
      rounds: Samples of each program's time.
      scale: Size relative to the full tree.
      seed: Seed of the order in which programs take their turns.
      say: Told what comes next.

    Returns:
      A record for each program, the clipax program's twin included.
    """
    # Every compile time is a full one, whatever the environment says about a cache on disk.
    jax.config.update("jax_enable_compilation_cache", False)
    jax.jit(lambda x: x + 1).lower(1.0).compile()  # the compiler's own start is no one's cost
    params = trees.parameters(tree, DTYPES[dtype], scale=scale)
    grads = trees.gradients(tree, DTYPES[dtype], scale=scale)
    records = []
    for name in cases:
        records += _measure_case(tree, dtype, name, CASES[name], params, grads, rounds, seed, say)
    return records


class Compiled(NamedTuple):
    """A training step.

    Attributes:
      step: The compiled `(params, state, grads) -> (params, state)`.
      state: A fresh state.
      seconds: For tracing, lowering and compiling.
      cpu_seconds: The same, of the processor.
    """

    step: Any
    state: Any
    seconds: float
    cpu_seconds: float


def compile_step(
    transformation: Any, params: Any, grads: Any, options: dict[str, Any] | None = None
) -> Compiled:
    """Compiles a training step as training runs it, parameters and state donated.

    Args:
      transformation: The optimizer.
      params: Parameters; not used up.
      grads: Gradients.
      options: Of the compiler, instead of what the process set.
    """

    def step(params: Any, state: Any, grads: Any) -> tuple[Any, Any]:
        updates, state = transformation.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    state = jax.jit(transformation.init)(params)
    start, cpu = time.perf_counter(), time.process_time()
    lowered = jax.jit(step, donate_argnums=(0, 1)).lower(params, state, grads)
    compiled = lowered.compile(compiler_options=options)
    return Compiled(compiled, state, time.perf_counter() - start, time.process_time() - cpu)


def _measure_case(
    tree: str,
    dtype: str,
    name: str,
    case: Case,
    params: Any,
    grads: Any,
    rounds: int,
    seed: int,
    say: Callable[[str], None],
) -> list[Record]:
    factories = {**case.programs, TWIN: case.programs[CLIPAX]}
    size = hlo.tree_bytes(params)
    sparse = trees.with_zero_leaves(grads) if case.zero_leaves else grads
    runners, counts, compiles = {}, {}, {}
    say(f"{tree} {dtype} {name}: compiling {len(factories)} programs")
    for role, factory in factories.items():
        step, state, compiles[role], _ = compile_step(factory(), params, grads)
        counts[role] = hlo.count(step)
        own = jax.tree.map(jnp.copy, params)
        runners[role] = Runner(step, own, state, sparse if role in case.zero_leaves else grads)
    say(f"{tree} {dtype} {name}: timing them, {rounds} rounds")
    times = interleave(runners, rounds, seed=seed)
    return [
        Record(
            tree=tree,
            dtype=dtype,
            case=name,
            program=role,
            traffic=counts[role].bytes_accessed / size,
            temporaries=counts[role].temporaries / size,
            reductions=counts[role].reductions,
            conditionals=counts[role].conditionals,
            compile_seconds=compiles[role],
            step_seconds=float(np.median(times[role])),
            ratios={
                other: median_ratio(times[role], times[other])
                for other in factories
                if other != role
            },
            compile_ratios={
                other: median_ratio(compiles[role], compiles[other])
                for other in factories
                if other != role
            },
        )
        for role in factories
    ]


def pool_repeats(repeats: Sequence[Record]) -> Record:
    """One program's repeats, each in a fresh process, as one record."""
    first = repeats[0]
    return replace(
        first,
        compile_seconds=float(np.median([one.compile_seconds for one in repeats])),
        step_seconds=float(np.median([one.step_seconds for one in repeats])),
        ratios={other: pool([one.ratios[other] for one in repeats]) for other in first.ratios},
        compile_ratios={
            other: pool([one.compile_ratios[other] for one in repeats])
            for other in first.compile_ratios
        },
    )


def environment() -> dict[str, str]:
    """Versions and device of this process, the commit of clipax, and today's date."""
    device = jax.devices()[0]
    return {
        "device": f"{device.platform}: {device.device_kind}",
        "cores": str(os.cpu_count()),
        "python": platform.python_version(),
        "jax": jax.__version__,
        "jaxlib": version("jaxlib"),
        "optax": version("optax"),
        **_source(Path(clipax.__file__).parents[1]),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
    }


def _source(root: Path) -> dict[str, str]:
    """The version of clipax and, in a checkout, its commit, with "+" where files were changed.

    From the folder that it is imported from: what is installed may be another version, or none.
    """
    project = root / "pyproject.toml"
    if not project.is_file():
        return {"clipax": clipax.__version__}
    found = {"clipax": tomllib.loads(project.read_text())["project"]["version"]}
    if not (root / ".git").exists():
        return found
    changed = ("status", "--porcelain", "--untracked-files=no", "--", "clipax", "benchmarks/*.py")
    try:
        commit, rest = (
            subprocess.run(
                ["git", "-C", str(root), *command], capture_output=True, text=True, check=True
            ).stdout.strip()
            for command in (("rev-parse", "--short", "HEAD"), changed)
        )
    except (OSError, subprocess.CalledProcessError):  # no git, or not its owner
        return found
    return found | {"commit": commit + ("+" if rest else "")}
