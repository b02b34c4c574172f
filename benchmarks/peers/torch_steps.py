"""Steps in PyTorch, for the benchmarks that compare with it; nothing where it is not installed."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

FUSED, FOREACH = "torch, fused", "torch, foreach"
PROGRAMS = {FUSED: {"fused": True}, FOREACH: {"foreach": True}}
"""The programs, and how the optimizer of each is told to go through the leaves."""

_DTYPES = {"f32": "float32", "bf16": "bfloat16"}
# Libraries that are not there; a device that is not, or its memory; no CUDA in PyTorch.
_FAILURES = (ImportError, OSError, RuntimeError, AssertionError)


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
    programs: Sequence[str],
    optimizer: str,
    dtype: str,
    shapes: Sequence[tuple[int, ...]],
    platform: str,
) -> dict[str, TorchRunner]:
    """The steps of an optimizer on a tree, each tried once.

    On a GPU, PyTorch has what JAX's preallocation left. Where that is too little, or PyTorch was
    built without CUDA, there is a line that says so instead, and nothing is returned. `platform` is
    JAX's name of the device: PyTorch runs on the same.
    """
    if not programs or not available():
        return {}
    device = {"gpu": "cuda"}.get(platform, platform)
    try:
        made = {name: make(name, optimizer, dtype, shapes, device) for name in programs}
        for one in made.values():
            one.move()
            one.run(1)
    except _FAILURES as error:
        about = " ".join(str(error).splitlines()[:1])
        print(f"Without PyTorch: {type(error).__name__}: {about}", file=sys.stderr)
        return {}
    return made


def make(
    program: str, optimizer: str, dtype: str, shapes: Sequence[tuple[int, ...]], device: str
) -> TorchRunner:
    """One program's step; the arguments are those of `runners`, `device` is PyTorch's name."""
    torch = load()
    kind = getattr(torch, _DTYPES[dtype])
    entries = sum(torch.Size(shape).numel() for shape in shapes)
    params = []
    for shape in shapes:
        one = torch.nn.Parameter((0.1 * torch.randn(shape, device=device)).to(kind))
        one.grad = (4 / entries**0.5 * torch.randn(shape, device=device)).to(kind)
        params.append(one)
    factory = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[optimizer]
    return TorchRunner(params, factory(params, lr=1e-3, **PROGRAMS[program]), device)
