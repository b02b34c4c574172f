"""Functions in several forms, one of which is chosen when a program is lowered for its platform.

What is fast on a CPU may make a GPU's host wait, or a TPU write out copies. The other forms leave
no trace in the compiled program.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Literal, TypeVar, get_args

import jax
from jax import lax

from clipax import _validate

__all__ = ["Platform", "assume_platform", "choose", "default_platform"]

T = TypeVar("T")
Platform = Literal["cpu", "gpu", "tpu"]

# Part of the key by which JAX caches what it has traced.
_assumed = jax.make_user_context(None)


def choose(
    *operands: Any, cpu: Callable[..., T], gpu: Callable[..., T], tpu: Callable[..., T]
) -> T:
    """Call the form for the platform that the program is lowered for, on the operands.

    Args:
      *operands: The arrays that the forms take.
      cpu: The form for CPUs.
      gpu: The form for CUDA and ROCm.
      tpu: The form for TPUs, and for platforms that are none of these.
    """
    if _assumed.value is not None:
        return {"cpu": cpu, "gpu": gpu, "tpu": tpu}[_assumed.value](*operands)
    return lax.platform_dependent(*operands, cpu=cpu, cuda=gpu, rocm=gpu, default=tpu)


def assume_platform(name: Platform) -> AbstractContextManager[None]:
    """Trace the forms of a platform, whatever the program is lowered for: on a CPU all can run."""
    _validate.one_of("name", name, get_args(Platform))
    return _assumed(name)


def default_platform() -> Platform:
    """Return the platform of the default device."""
    backend = jax.default_backend()
    return "cpu" if backend == "cpu" else "gpu" if backend == "gpu" else "tpu"
