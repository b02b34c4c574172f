"""The programs that `benchmarks.per_example` compares: one step of SGD, each example clipped."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import clipax
from benchmarks import torch_steps
from benchmarks.per_example_models import Problem
from benchmarks.timing import Runner

__all__ = [
    "AGAIN",
    "CLIPAX",
    "EIGHT",
    "JAX_PRIVACY",
    "OPACUS",
    "OPTAX",
    "PLAIN",
    "made",
    "missing",
    "opacus_step",
    "versions",
]

PLAIN, OPTAX, JAX_PRIVACY, OPACUS = "plain gradient", "optax", "jax_privacy", "opacus"
CLIPAX, AGAIN, EIGHT = "clipax", "clipax, again", "clipax, 8 at a time"
THRESHOLD, RATE = 1.0, 1e-4


def missing() -> dict[str, str]:
    """The optional forms that are not installed, with a line that says so."""
    return {
        name: f"{name}: left out, it is not installed"
        for name in (JAX_PRIVACY, OPACUS)
        if importlib.util.find_spec(name) is None
    }


def versions() -> dict[str, str]:
    """Versions of the optional forms that are installed."""
    absent = missing()
    found = {
        name: importlib.metadata.version(name)
        for name in (JAX_PRIVACY, OPACUS)
        if name not in absent
    }
    return found | (torch_steps.versions() if OPACUS in found else {})


def made(name: str, problem: Problem) -> tuple[Runner, float | None]:
    """A form's step, ready to run, and its program's temporaries in bytes if they are known."""
    if name == OPACUS:
        return _opacus(problem), None
    gradient = _GRADIENTS[name](problem)

    def step(params: Any, state: Any, batch: Any) -> tuple[Any, Any]:
        grads = gradient(params, *batch)
        return jax.tree.map(lambda p, g: p - RATE * g, params, grads), state

    own = jax.tree.map(jnp.copy, problem.params)
    lowered = jax.jit(step, donate_argnums=0).lower(own, (), problem.batch)
    compiled = lowered.compile()
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


def opacus_step(problem: Problem) -> tuple[Any, Callable[[], None]]:
    """Opacus' gradients of single examples for the dense layers, clipped as its optimizer does.

    Args:
      problem: The dense model on a batch.

    Returns:
      PyTorch's model with the problem's parameters, and what takes a step of SGD with it.
    """
    torch = torch_steps.load()
    opacus: Any = importlib.import_module("opacus")
    # The inputs need no gradient, and it says that none is computed for them.
    warnings.filterwarnings("ignore", "Full backward hook is firing", UserWarning)

    layers: list[Any] = []
    for layer in problem.params:
        dense = torch.nn.Linear(*layer["kernel"].shape)
        with torch.no_grad():
            dense.weight.copy_(torch.tensor(np.array(layer["kernel"]).T))
            dense.bias.copy_(torch.tensor(np.array(layer["bias"])))
        layers += [dense, torch.nn.ReLU()]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = opacus.GradSampleModule(torch.nn.Sequential(*layers[:-1])).to(device)
    images, labels = (torch.tensor(np.array(one)).to(device) for one in problem.batch)
    labels = labels.long()
    plain = torch.optim.SGD(model.parameters(), lr=RATE)
    optimizer = opacus.optimizers.DPOptimizer(
        plain, noise_multiplier=0.0, max_grad_norm=THRESHOLD, expected_batch_size=problem.size
    )

    def step() -> None:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()
        if device == "cuda":
            torch.cuda.synchronize()

    return model, step


def _opacus(problem: Problem) -> Runner:
    _, take = opacus_step(problem)

    def step(params: Any, state: Any, batch: Any) -> tuple[Any, Any]:
        take()
        return params, state

    return Runner(step, (), (), ())
