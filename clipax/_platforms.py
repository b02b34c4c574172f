"""Functions in several forms, one of which is chosen when a program is lowered for its platform.

What is fast on a CPU may make a GPU's host wait, or a TPU write out copies. The other forms leave
no trace in the compiled program.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal, TypeVar, get_args

from jax import lax

from clipax import _validate

__all__ = ["Platform", "assume_platform", "assumed_platform", "choose"]

T = TypeVar("T")
Platform = Literal["cpu", "gpu", "tpu"]

_assumed: ContextVar[Platform | None] = ContextVar("platform", default=None)


def choose(
    *operands: Any,
    cpu: Callable[..., T],
    gpu: Callable[..., T],
    tpu: Callable[..., T],
    assumed: Platform | None,
) -> T:
    """Call the form for the platform that the program is lowered for, on the operands.

    Args:
      *operands: The arrays that the forms take.
      cpu: The form for CPUs.
      gpu: The form for CUDA and ROCm.
      tpu: The form for TPUs, and for platforms that are none of these.
      assumed: The platform to take instead: pass `assumed_platform()`, under `jit` as a static
        argument, so that programs of different platforms are not taken for one.
    """
    if assumed is not None:
        return {"cpu": cpu, "gpu": gpu, "tpu": tpu}[assumed](*operands)
    return lax.platform_dependent(*operands, cpu=cpu, cuda=gpu, rocm=gpu, default=tpu)


def assumed_platform() -> Platform | None:
    """Return the platform that `assume_platform` names, or None."""
    return _assumed.get()


@contextmanager
def assume_platform(name: Platform) -> Iterator[None]:
    """Trace the forms of a platform, whatever the program is lowered for: on a CPU all can run.

    Trace anew inside: a function that is compiled already keeps its form.
    """
    _validate.one_of("name", name, get_args(Platform))
    token = _assumed.set(name)
    try:
        yield
    finally:
        _assumed.reset(token)
