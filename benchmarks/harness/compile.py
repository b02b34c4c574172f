"""Compiles training steps, counts what they do, and says where that was done."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import time
import tomllib
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

import clipax
from benchmarks.harness import hlo

DTYPES = {"f32": jnp.float32, "bf16": jnp.bfloat16}


class Compiled(NamedTuple):
    """A compiled `(params, state, grads) -> (params, state)` and a fresh state.

    The seconds of the processor are for tracing, lowering and compiling.
    """

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

    `params` are not used up; `options` are the compiler's, instead of what the process set.
    """

    def step(params: Any, state: Any, grads: Any) -> tuple[Any, Any]:
        updates, state = transformation.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    state = jax.jit(transformation.init)(params)
    start = time.process_time()
    lowered = jax.jit(step, donate_argnums=(0, 1)).lower(params, state, grads)
    compiled = lowered.compile(compiler_options=options)
    return Compiled(compiled, state, time.process_time() - start)


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


def memory_size() -> int:
    """Counts the bytes that arrays may take on the default device; 2^40 where nothing tells."""
    stats = jax.devices()[0].memory_stats() or {}
    if "bytes_limit" in stats:
        return int(stats["bytes_limit"])
    try:
        found = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())
    except OSError:
        found = None
    return int(found[1]) * 1024 if found else 2**40


def environment() -> dict[str, str]:
    """Tells versions and device of this process, the commit of clipax, and today's date."""
    device = jax.devices()[0]
    return {
        "device": f"{device.platform}: {device.device_kind}",
        "cores": str(os.cpu_count()),
        "python": platform.python_version(),
        **{name: version(name) for name in ("jax", "jaxlib", "optax")},
        **_find_source(Path(clipax.__file__).parents[1]),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
    }


def _find_source(root: Path) -> dict[str, str]:
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
