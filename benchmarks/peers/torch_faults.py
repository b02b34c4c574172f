"""PyTorch implementations for the suite of faults, run step by step; nothing without the extra."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

import jax
import numpy as np

from clipax.testing import StepByStep

Clip = Callable[[list[Any]], Any]
MakeOptimizer = Callable[[list[Any]], Any]
_PACKAGES = ("torch", "timm", "pytorch_optimizer")


class TorchMethod:
    """A clip of gradients in place, an optimizer, or the first in front of the second.

    Args:
      clip: Changes the gradients of a list of parameters; None for no clip.
      make: From a list of parameters to an optimizer; None: the clipped gradients are the update.
    """

    def __init__(self, clip: Clip | None = None, make: MakeOptimizer | None = None) -> None:
        self._clip = clip
        self._make = make

    def step_by_step(self) -> StepByStep:
        """The method as the suite runs it: parameters stay where they are."""
        return StepByStep(self._start, self._update, _Run.arrays)

    def _start(self, params: Any) -> _Run:
        if self._make is None:
            return _Run(params, None, {})
        # Most optimizers make their state in the first step: a run to throw away tells its shapes.
        trial = _Run(params, self._make, {})
        self._update(jax.tree.map(np.ones_like, params), trial, params)
        return _Run(params, self._make, trial.found())

    def _update(self, gradient: Any, state: _Run, params: Any) -> tuple[Any, _Run]:
        state.set_gradients(gradient)
        if self._clip is not None:
            self._clip(state.parameters)
        if state.optimizer is None:
            return state.tree([parameter.grad for parameter in state.parameters]), state
        before = [parameter.detach().clone() for parameter in state.parameters]
        state.optimizer.step()
        moved = []
        for parameter, old in zip(state.parameters, before, strict=True):
            moved.append(parameter.detach() - old)
            parameter.data.copy_(old)
        return state.tree(moved), state


class _Run:
    """Parameters and an optimizer of them."""

    def __init__(
        self, params: Any, make: MakeOptimizer | None, known: dict[str, np.ndarray]
    ) -> None:
        import torch

        leaves, self._structure = jax.tree.flatten(params)
        self.parameters = [torch.nn.Parameter(torch.from_numpy(np.array(one))) for one in leaves]
        self.optimizer = None if make is None else make(self.parameters)
        self._known = known

    def set_gradients(self, gradient: Any) -> None:
        import torch

        for parameter, leaf in zip(self.parameters, jax.tree.leaves(gradient), strict=True):
            parameter.grad = torch.from_numpy(np.array(leaf))

    def tree(self, tensors: Iterable[Any]) -> Any:
        return jax.tree.unflatten(self._structure, [one.numpy(force=True) for one in tensors])

    def arrays(self) -> dict[str, np.ndarray]:
        """The state; zeros for what the first step has yet to make."""
        found = self.found()
        return {name: found.get(name, np.zeros_like(like)) for name, like in self._known.items()}

    def found(self) -> dict[str, np.ndarray]:
        """Tensors and numbers that the optimizer remembers for its parameters."""
        if self.optimizer is None:
            return {}
        import torch

        found: dict[str, np.ndarray] = {}
        for place, parameter in enumerate(self.parameters):
            for name, value in self.optimizer.state.get(parameter, {}).items():
                if isinstance(value, torch.Tensor):
                    found[f"{place}_{name}"] = value.numpy(force=True)
                elif isinstance(value, int | float):
                    found[f"{place}_{name}"] = np.asarray(value)
        return found


def subjects() -> dict[str, Callable[[], StepByStep]]:
    """What the installed packages have, by library and name; thresholds for gradients of norm 1."""
    found: dict[str, TorchMethod] = {}
    if find_spec("torch"):
        found |= _torch()
    if find_spec("torch") and find_spec("timm"):
        from timm.utils import adaptive_clip_grad

        found["timm/adaptive_clip_grad"] = TorchMethod(partial(adaptive_clip_grad, clip_factor=0.3))
    if find_spec("torch") and find_spec("pytorch_optimizer"):
        found |= _pytorch_optimizer()
    return {name: method.step_by_step for name, method in found.items()}


def versions() -> dict[str, str]:
    """Tells the versions of the packages that are installed."""
    return {package: version(package) for package in _PACKAGES if find_spec(package)}


def _torch() -> dict[str, TorchMethod]:
    import torch
    from torch.nn.utils import clip_grad_norm_, clip_grad_value_

    by_norm = partial(clip_grad_norm_, max_norm=1.0)
    adam = partial(torch.optim.Adam, lr=0.1)
    return {
        "torch/clip_grad_norm_": TorchMethod(by_norm),
        "torch/clip_grad_value_": TorchMethod(partial(clip_grad_value_, clip_value=0.5)),
        "torch/SGD, momentum": TorchMethod(None, partial(torch.optim.SGD, lr=0.1, momentum=0.9)),
        "torch/Adam": TorchMethod(None, adam),
        "torch/clip_grad_norm_, Adam": TorchMethod(by_norm, adam),
    }


def _pytorch_optimizer() -> dict[str, TorchMethod]:
    import pytorch_optimizer

    names = ("AdaGC", "SPAM", "StableSPAM", "StableAdamW", "AdaNorm", "ADOPT")
    return {
        f"pytorch_optimizer/{name}": TorchMethod(
            None, partial(getattr(pytorch_optimizer, name), lr=0.1, weight_decay=0.0)
        )
        for name in names
        if hasattr(pytorch_optimizer, name)
    }
