"""Per-example clipping: every example's gradient is clipped before they are averaged."""

from clipax.per_example._clipped import ClippedGrad as ClippedGrad
from clipax.per_example._clipped_grad import ExampleStats as ExampleStats
from clipax.per_example._clipped_grad import clipped_grad as clipped_grad
from clipax.per_example._clipped_grad import clipped_value_and_grad as clipped_value_and_grad
from clipax.per_example._noise_split import noise_split as noise_split
from clipax.per_example._threshold import current_threshold as current_threshold
