"""Transformations of norms: functions from gradient norms to the factors that scale a gradient.

`clipax.scale_by_norm` lifts them to gradients. They compose with `chain` on the norms alone, so a
chain of any length measures a gradient once and multiplies it once.
"""

from clipax.norms._base import Decision, NormTransformation
from clipax.norms._chain import chain, identity
from clipax.norms._delay import delay
from clipax.norms._responses import clip, normalize, regularized, smooth
from clipax.norms._stepsizes import adagrad_norm, adam_norm

__all__ = [
    "Decision",
    "NormTransformation",
    "adagrad_norm",
    "adam_norm",
    "chain",
    "clip",
    "delay",
    "identity",
    "normalize",
    "regularized",
    "smooth",
]
