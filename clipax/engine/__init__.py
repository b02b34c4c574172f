"""One step of any method: measure, decide, guard, apply, record.

`Step` is the object that every transformation is written on, `lift` its plainest use.
"""

from clipax.engine._blocks import keep_rows as keep_rows
from clipax.engine._counts import Counts as Counts
from clipax.engine._counts import add_step as add_step
from clipax.engine._counts import init_counts as init_counts
from clipax.engine._decide import NormRules as NormRules
from clipax.engine._decide import RuleStates as RuleStates
from clipax.engine._decide import forget as forget
from clipax.engine._entries import EntryContext as EntryContext
from clipax.engine._entries import EntryRule as EntryRule
from clipax.engine._entries import Memory as Memory
from clipax.engine._entries import average as average
from clipax.engine._entries import guard as guard
from clipax.engine._entries import hide as hide
from clipax.engine._entries import keep as keep
from clipax.engine._entries import momentum as momentum
from clipax.engine._entries import scale as scale
from clipax.engine._entries import scales_like as scales_like
from clipax.engine._entries import wide_zeros_like as wide_zeros_like
from clipax.engine._entries import zeros_like as zeros_like
from clipax.engine._factors import BlockFactors as BlockFactors
from clipax.engine._lift import lift as lift
from clipax.engine._moments import Moments as Moments
from clipax.engine._moments import adam as adam
from clipax.engine._moments import add_decay as add_decay
from clipax.engine._moments import count_steps as count_steps
from clipax.engine._moments import counted_steps as counted_steps
from clipax.engine._skip import make_skippable as make_skippable
from clipax.engine._spec import ScaleByNormState as ScaleByNormState
from clipax.engine._spec import Spec as Spec
from clipax.engine._step import Step as Step
from clipax.engine._telemetry import Telemetry as Telemetry
from clipax.engine._telemetry import decode_names as decode_names
from clipax.engine._telemetry import known_labels as known_labels
from clipax.engine._telemetry import stack_telemetry as stack_telemetry
from clipax.engine._transformation import chain as chain
from clipax.engine._transformation import make_transformation as make_transformation
