"""Results of the theorems: keyword arguments of an optimizer."""

from __future__ import annotations

from typing import NamedTuple

__all__ = [
    "ClipAdagradNormParameters",
    "ClipAdamNormParameters",
    "ClipNormalizedMomentumParameters",
    "ClipRadagradNormParameters",
    "ClipSgdParameters",
    "NormalizedSgdParameters",
    "OffsetClipSgdParameters",
    "SgdParameters",
]


class SgdParameters(NamedTuple):
    """Arguments of `optax.sgd`."""

    learning_rate: float


class ClipSgdParameters(NamedTuple):
    """Arguments of `clipax.clip_sgd`."""

    learning_rate: float
    threshold: float


class OffsetClipSgdParameters(NamedTuple):
    """Arguments of `clipax.clip_sgd`, where the noise is added to the norm."""

    learning_rate: float
    threshold: float
    offset: float


class NormalizedSgdParameters(NamedTuple):
    """Arguments of `clipax.normalized_sgd`."""

    learning_rate: float
    eps: float


class ClipAdagradNormParameters(NamedTuple):
    """Arguments of `clipax.clip_adagrad_norm`; `b1` and `delay` are None for none."""

    learning_rate: float
    threshold: float
    b_init: float
    b1: float | None
    delay: int | None


class ClipAdamNormParameters(NamedTuple):
    """Arguments of `clipax.clip_adam_norm`; `b1` and `delay` are None for none."""

    learning_rate: float
    threshold: float
    b_init: float
    b1: float | None
    b2: float
    delay: int | None


class ClipRadagradNormParameters(NamedTuple):
    """Arguments of `clipax.clip_radagrad_norm`."""

    learning_rate: float
    threshold: float
    b_init: float
    reweight: float


class ClipNormalizedMomentumParameters(NamedTuple):
    """Arguments of `clipax.clip_normalized_momentum`."""

    learning_rate: float
    threshold: float
    decay: float
