"""Lowering in less time: all programs of a process are written in one MLIR context."""

from __future__ import annotations

import functools

from jax._src.interpreters import mlir

__all__ = ["share_context"]


def share_context() -> None:
    """Let JAX make its MLIR context once, not anew for each program.

    To make one, all dialects are registered, which takes more than a third of what a small program
    costs from its trace to its first run, and tests compile tens of thousands. The modules, and so
    what XLA makes of them, are the same.
    """
    mlir.make_ir_context = functools.cache(mlir.make_ir_context)
