"""Compiles training steps, counts what they do, and says where that was done."""

from __future__ import annotations

import os
import platform
import subprocess
import tomllib
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from benchmarks.harness import hlo

ROOT = Path(__file__).parents[2]
DTYPES = {"f32": jnp.float32, "bf16": jnp.bfloat16}


class Compiled(NamedTuple):
    """A compiled `(params, state, grads) -> (params, state)`, a fresh state, and what it took."""

    step: Any
    state: Any
    cpu_seconds: float


def start_compiler() -> None:
    """Makes every compile time a full one, whatever the environment says about a cache on disk."""
    jax.config.update("jax_enable_compilation_cache", False)
    jax.jit(lambda x: x + 1).lower(1.0).compile()  # the compiler's own start is no one's cost


def compile_step(
    transformation: Any, params: Any, grads: Any, options: dict[str, Any] | None = None
) -> Compiled:
    """Compiles an optimizer's step as training runs it, parameters and state donated.

    `params` are not used up; `options` are the compiler's, instead of what the process set. Seconds
    of the processor are for tracing, lowering and compiling.
    """

    def step(params: Any, state: Any, grads: Any) -> tuple[Any, Any]:
        updates, state = transformation.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    state = jax.jit(transformation.init)(params)
    start = read_processor()
    lowered = jax.jit(step, donate_argnums=(0, 1)).lower(params, state, grads)
    compiled = lowered.compile(compiler_options=options)
    return Compiled(compiled, state, read_processor() - start)


def read_processor() -> float:
    """Reads how many seconds this process and its children have kept the processor busy.

    Compilers start children: that of a GPU an assembler.
    """
    return sum(os.times()[:4])


def count_step(step: Any, size: int) -> dict[str, float]:
    """Counts what does not depend on the machine's load; memory in units of `size` bytes."""
    found, memory = hlo.count(step), step.memory_analysis()
    held = memory.argument_size_in_bytes + memory.output_size_in_bytes
    held += memory.temp_size_in_bytes - memory.alias_size_in_bytes
    return {
        "traffic": found.bytes_accessed / size,
        "temporaries": found.temporaries / size,
        "peak": held / size,
        "reductions": found.reductions,
    }


def environment() -> dict[str, str]:
    """Tells versions and device of this process, the commit of this checkout, and today's date."""
    device = jax.devices()[0]
    # What is installed may be another version, or none.
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return {
        "device": f"{device.platform}: {device.device_kind}",
        "cores": str(os.cpu_count()),
        "python": platform.python_version(),
        **{name: version(name) for name in ("jax", "jaxlib", "optax")},
        "clipax": project["version"],
        **_find_commit(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
    }


def _find_commit() -> dict[str, str]:
    """The commit, with "+" where code was changed; nothing outside of a checkout."""

    def git(*command: str) -> str:
        run = ["git", "-C", str(ROOT), *command]
        return subprocess.run(run, capture_output=True, text=True, check=True).stdout.strip()

    try:
        commit = git("rev-parse", "--short", "HEAD")
        changed = git("status", "--porcelain", "-uno", "--", "clipax", "benchmarks/*.py")
    except (OSError, subprocess.CalledProcessError):  # no git, or not its owner
        return {}
    return {"commit": commit + ("+" if changed else "")}
