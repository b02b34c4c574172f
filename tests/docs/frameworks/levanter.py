"""Levanter: `optim/config.py`, `tracker/tracker_fns.py` (marin-levanter 0.2)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import optax

__all__ = ["OptimizerConfig", "defer_tracker_for_jit", "jit_log"]

_deferred: dict[str, Any] | None = None


def jit_log(metrics: dict[str, Any], *, step: int | None = None) -> None:
    if _deferred is not None:
        _deferred.update(metrics)


@contextmanager
def defer_tracker_for_jit() -> Iterator[dict[str, Any]]:
    global _deferred
    _deferred = {}
    try:
        yield _deferred
    finally:
        _deferred = None


@dataclass(frozen=True)
class OptimizerConfig:
    registered: ClassVar[dict[str, type]] = {}

    learning_rate: float = 6e-4
    weight_decay: float = 0.1
    lr_schedule: str = "cosine"
    warmup: float = 0.01

    @classmethod
    def register_subclass(cls, name: str) -> Callable[[type], type]:
        def register(subclass: type) -> type:
            cls.registered[name] = subclass
            return subclass

        return register

    @classmethod
    def get_choice_class(cls, name: str) -> type:
        return cls.registered[name]

    def lr_scheduler(self, num_train_steps: int) -> optax.Schedule:
        return optax.constant_schedule(self.learning_rate)

    def build_weight_decay_mask(self) -> Any:
        return None
