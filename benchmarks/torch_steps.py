"""Steps in PyTorch, for the benchmarks that compare with it; nothing where it is not installed."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

from benchmarks.sweep_report import FOREACH, FUSED

__all__ = ["PROGRAMS", "TorchRunner", "available", "load", "runners", "versions"]

PROGRAMS = {FUSED: {"fused": True}, FOREACH: {"foreach": True}}
"""The programs, and how the optimizer of each is told to go through the leaves."""

_DTYPES = {"f32": "float32", "bf16": "bfloat16"}


def available() -> bool:
    """Whether PyTorch is installed."""
    return find_spec("torch") is not None


def load() -> Any:
    """PyTorch, imported so that its threads sleep while JAX takes its turn.

    On a CPU they would spin instead, and take the cores from JAX and from each other: a step of
    Opacus took ten times as long. It helps only before the first import.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    import torch

    return torch


def versions() -> dict[str, str]:
    """PyTorch's version, where it is installed."""
    return {"torch": version("torch")} if available() else {}


@dataclass
class TorchRunner:
    """`clip_grad_norm_(foreach=True)` and an optimizer, timed as `timing.Runner` is.

    The clip changes gradients in place. From the second step on they are within the threshold, and
    it multiplies them by one: the same work.
    """

    params: list[Any]
    optimizer: Any
    device: str

    def move(self) -> None:
        """Moves parameters and gradients elsewhere in memory."""
        for one in self.params:
            one.data, one.grad = one.data.clone(), one.grad.clone()

    def run(self, calls: int) -> float:
        """Seconds for one step, from `calls` steps in a row."""
        import torch

        self._wait()
        start = time.perf_counter()
        for _ in range(calls):
            torch.nn.utils.clip_grad_norm_(self.params, 1.0, foreach=True)
            self.optimizer.step()
        self._wait()
        return (time.perf_counter() - start) / calls

    def _wait(self) -> None:
        import torch

        if self.device == "cuda":
            torch.cuda.synchronize()


def runners(
    optimizer: str, dtype: str, shapes: Sequence[tuple[int, ...]]
) -> dict[str, TorchRunner]:
    """The steps of an optimizer on a tree.

    Args:
      optimizer: "sgd" or "adam".
      dtype: "f32" or "bf16".
      shapes: Of the leaves.

    Returns:
      What can be timed, by name in `PROGRAMS`; nothing without PyTorch.
    """
    if not available():
        return {}
    torch = load()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    kind = getattr(torch, _DTYPES[dtype])
    entries = sum(torch.Size(shape).numel() for shape in shapes)
    make = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[optimizer]
    made = {}
    for name, how in PROGRAMS.items():
        params = []
        for shape in shapes:
            one = torch.nn.Parameter((0.1 * torch.randn(shape, device=device)).to(kind))
            one.grad = (4 / entries**0.5 * torch.randn(shape, device=device)).to(kind)
            params.append(one)
        made[name] = TorchRunner(params, make(params, lr=1e-3, **how), device)
    return made
