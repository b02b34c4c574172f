"""Opacus, for the benchmark of clipping every example; nothing where it is not installed."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.harness.clock import Runner
from benchmarks.peers import torch_steps


def make_step(problem: Any, threshold: float, rate: float) -> tuple[Any, Callable[[], None]]:
    """Makes Opacus' gradients of single examples for dense layers, clipped as its optimizer does.

    Returns PyTorch's model with the problem's parameters, and what takes a step of SGD with it.
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
    plain = torch.optim.SGD(model.parameters(), lr=rate)
    optimizer = opacus.optimizers.DPOptimizer(
        plain, noise_multiplier=0.0, max_grad_norm=threshold, expected_batch_size=problem.size
    )

    def step() -> None:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()
        if device == "cuda":
            torch.cuda.synchronize()

    return model, step


def make_runner(problem: Any, threshold: float, rate: float) -> Runner:
    """Makes what can be timed of it."""
    _, take = make_step(problem, threshold, rate)

    def step(params: Any, state: Any, batch: Any) -> tuple[Any, Any]:
        take()
        return params, state

    return Runner(step, (), (), ())
