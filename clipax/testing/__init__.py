"""Fault injection: what becomes of a gradient transformation once its gradients go wrong.

`inject_faults` puts any optax transformation, or any other method as a `StepByStep`, through the
faults in `FAULTS` (a NaN, a zero gradient, norms of 1e38, a spike, ...), early and late, and
reports for each whether it recovers.
"""

from clipax.testing._faults import FAULTS, Fault
from clipax.testing._inject import inject_faults
from clipax.testing._report import BREAKS, DELAYED, DIES, RECOVERS, Report, Row
from clipax.testing._runs import StepByStep

__all__ = [
    "BREAKS",
    "DELAYED",
    "DIES",
    "FAULTS",
    "RECOVERS",
    "Fault",
    "Report",
    "Row",
    "StepByStep",
    "inject_faults",
]
