"""Per-example clipping: every example's gradient is clipped before they are averaged."""

from clipax.per_example._clipped_grad import ExampleStats, clipped_grad, clipped_value_and_grad
from clipax.per_example._threshold import current_threshold

__all__ = ["ExampleStats", "clipped_grad", "clipped_value_and_grad", "current_threshold"]
