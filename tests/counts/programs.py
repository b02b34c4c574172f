"""Compiles training steps on small versions of the benchmark's trees."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax

from benchmarks.harness import hlo, trees
from benchmarks.harness.compile import DTYPES, compile_step

# About a million entries: large enough that the scalars beside them do not show.
SCALES = {"leaf": 1 / 32, "shallow": 1 / 10, "transformer": 1 / 30}
TREES = ["leaf", "shallow"]

# In units of the tree. Scalars and partial sums of 40 leaves stay below the first. Temporaries
# hold the scratch of the overflow branch too, which stays below the second; a copy of the tree is
# 1, and 2 in float32 of a bfloat16 tree.
SLACK = 0.1
SCRATCH = 0.04


# Programs are counted as users' are compiled. Where `tests/conftest.py` has chosen cheaper emitters
# for the whole process, the option is set back; other releases of XLA do not know it.
_FLAG = "xla_cpu_use_fusion_emitters"
DEFAULTS = {_FLAG: True} if f"{_FLAG}=false" in os.environ.get("XLA_FLAGS", "") else {}


@dataclass(frozen=True)
class Counts:
    """What one step does, bytes in units of the tree."""

    traffic: float
    temporaries: float
    reductions: int
    conditionals: int


def compiled(transformation: Any, tree: str, dtype: str) -> Any:
    """The compiled step of an optimizer."""
    params = trees.parameters(tree, DTYPES[dtype], scale=SCALES[tree])
    grads = trees.gradients(tree, DTYPES[dtype], scale=SCALES[tree])
    return compile_step(transformation, params, grads, DEFAULTS).step


def counts(transformation: Any, tree: str, dtype: str = "f32") -> Counts:
    """What the step of an optimizer does."""
    program = hlo.count(compiled(transformation, tree, dtype))
    size = hlo.tree_bytes(trees.parameters(tree, DTYPES[dtype], scale=SCALES[tree]))
    return Counts(
        program.bytes_accessed / size,
        program.temporaries / size,
        program.reductions,
        program.conditionals,
    )


def lean_clip(threshold: float) -> optax.GradientTransformation:
    """The least a clip can do: one read, one multiplication, no guard and no telemetry."""

    def update(updates: Any, params: Any) -> Any:
        squares = [
            jnp.sum(jnp.square(leaf.astype(jnp.float32))) for leaf in jax.tree.leaves(updates)
        ]
        norm = jnp.sqrt(jnp.sum(jax.lax.optimization_barrier(jnp.stack(squares))))
        factor = jnp.minimum(1.0, threshold / norm)
        # Without the barrier a bf16 tree is converted once for both uses, and written out in f32.
        updates = jax.lax.optimization_barrier(updates)
        return jax.tree.map(
            lambda leaf: (leaf.astype(jnp.float32) * factor).astype(leaf.dtype), updates
        )

    return optax.stateless(update)
