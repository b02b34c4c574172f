"""Tests of a gradient transformation: does it clip, does it recover after bad gradients?

`assert_clips` raises if a gradient of a thousand times the threshold goes through an optimizer.

`inject_faults` puts any optax transformation, or any other method as a `StepByStep`, through the
faults in `FAULTS` (a NaN, a zero gradient, norms of 1e38, a spike, a level that falls, ...), in the
first step, early and late, and reports for each whether it recovers.
"""

from clipax.testing._assert_clips import assert_clips as assert_clips
from clipax.testing._faults import FAULTS as FAULTS
from clipax.testing._faults import Fault as Fault
from clipax.testing._inject import inject_faults as inject_faults
from clipax.testing._report import BREAKS as BREAKS
from clipax.testing._report import DELAYED as DELAYED
from clipax.testing._report import DIES as DIES
from clipax.testing._report import RECOVERS as RECOVERS
from clipax.testing._report import Report as Report
from clipax.testing._report import Row as Row
from clipax.testing._runs import StepByStep as StepByStep
