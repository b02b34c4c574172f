"""The same steps in PyTorch, for `benchmarks.sweep`; nothing where it is not installed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

__all__ = ["NAME", "TorchRunner", "available", "runner", "versions"]

NAME = "torch"
_DTYPES = {"f32": "float32", "bf16": "bfloat16"}


def available() -> bool:
    """Whether PyTorch is installed."""
    return find_spec("torch") is not None


def versions() -> dict[str, str]:
    """PyTorch's version, where it is installed."""
    return {"torch": version("torch")} if available() else {}


@dataclass
class TorchRunner:
    """`clip_grad_norm_(foreach=True)` and a fused optimizer, timed as `timing.Runner` is.

    The clip changes gradients in place, and so does nothing from the second step on but its work:
    it multiplies by a factor whatever that is.
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


def runner(optimizer: str, dtype: str, shapes: Sequence[tuple[int, ...]]) -> TorchRunner | None:
    """The step of an optimizer on a tree.

    Args:
      optimizer: "sgd" or "adam".
      dtype: "f32" or "bf16".
      shapes: Of the leaves.

    Returns:
      What can be timed; None without PyTorch.
    """
    if not available():
        return None
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    kind = getattr(torch, _DTYPES[dtype])
    entries = sum(torch.Size(shape).numel() for shape in shapes)
    params = []
    for shape in shapes:
        one = torch.nn.Parameter((0.1 * torch.randn(shape, device=device)).to(kind))
        one.grad = (4 / entries**0.5 * torch.randn(shape, device=device)).to(kind)
        params.append(one)
    make = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[optimizer]
    return TorchRunner(params, make(params, lr=1e-3, fused=True), device)
