"""One step of SGD that clips each example, with optax, jax_privacy, Opacus and clipax."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

import clipax
from benchmarks.harness.clock import Runner
from benchmarks.peers import opacus_steps, torch_steps
from benchmarks.suites.per_example_models import Problem

PLAIN, OPTAX, JAX_PRIVACY, OPACUS = "plain gradient", "optax", "jax_privacy", "opacus"
CLIPAX, AGAIN, EIGHT = "clipax", "clipax, again", "clipax, 8 at a time"
THRESHOLD, RATE = 1.0, 1e-4


def find_missing() -> list[str]:
    """Names the optional forms that are not installed."""
    return [name for name in (JAX_PRIVACY, OPACUS) if importlib.util.find_spec(name) is None]


def versions() -> dict[str, str]:
    """Tells the versions of the optional forms that are installed."""
    there = [name for name in (JAX_PRIVACY, OPACUS) if name not in find_missing()]
    found = {name: importlib.metadata.version(name) for name in there}
    return found | (torch_steps.versions() if OPACUS in found else {})


def make(name: str, problem: Problem) -> tuple[Runner, float | None]:
    """Makes a form's step, and counts its program's temporaries in bytes if they are known."""
    if name == OPACUS:
        return opacus_steps.make_runner(problem, THRESHOLD, RATE), None
    gradient = _GRADIENTS[name](problem)

    def step(params: Any, state: Any, batch: Any) -> tuple[Any, Any]:
        grads = gradient(params, *batch)
        return jax.tree.map(lambda p, g: p - RATE * g, params, grads), state

    own = jax.tree.map(jnp.copy, problem.params)
    compiled = jax.jit(step, donate_argnums=0).lower(own, (), problem.batch).compile()
    analysis = compiled.memory_analysis()
    temporaries = None if analysis is None else float(analysis.temp_size_in_bytes)
    return Runner(compiled, own, (), problem.batch), temporaries


def _plain(problem: Problem) -> Callable[..., Any]:
    def mean(params: Any, *batch: Any) -> Any:
        return jnp.mean(jax.vmap(lambda *example: problem.loss(params, *example))(*batch))

    return jax.grad(mean)


def _optax(problem: Problem) -> Callable[..., Any]:
    def gradient(params: Any, *batch: Any) -> Any:
        axes = (None, *(0 for _ in batch))
        grads = jax.vmap(jax.grad(problem.loss), in_axes=axes)(params, *batch)
        leaves, structure = jax.tree.flatten(grads)
        total, _ = optax.per_example_global_norm_clip(leaves, THRESHOLD)
        return jax.tree.unflatten(structure, [one / problem.size for one in total])

    return gradient


def _jax_privacy(problem: Problem) -> Callable[..., Any]:
    """One at a time: all at once, its default, takes 20 times optax's time on a CPU."""
    clipping: Any = importlib.import_module("jax_privacy.clipping")
    return clipping.clipped_grad(
        problem.loss,
        l2_clip_norm=THRESHOLD,
        normalize_by=problem.size,
        batch_argnums=tuple(range(1, 1 + len(problem.batch))),
        keep_batch_dim=False,
        microbatch_size=1,
    )


def _clipax(microbatch_size: int | None) -> Callable[[Problem], Callable[..., Any]]:
    def form(problem: Problem) -> Callable[..., Any]:
        grad = clipax.clipped_grad(problem.loss, THRESHOLD, microbatch_size=microbatch_size)
        return lambda params, *batch: grad(params, *batch)[0]

    return form


_GRADIENTS = {
    PLAIN: _plain,
    OPTAX: _optax,
    JAX_PRIVACY: _jax_privacy,
    CLIPAX: _clipax(None),
    AGAIN: _clipax(None),
    EIGHT: _clipax(8),
}
FORMS = (PLAIN, OPTAX, JAX_PRIVACY, OPACUS, CLIPAX, AGAIN, EIGHT)
