"""The functions that `clipped_grad` and `clipped_value_and_grad` return."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from clipax._typing import Array, Params, Scalar, ScalarOrSchedule
from clipax.per_example._options import Options
from clipax.per_example._sensitivity import find_sensitivity

__all__ = ["ClippedGrad"]

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class ClippedGrad(Generic[T]):
    """A clipped gradient, to be called, and what is known of it.

    Attributes:
      call: The function itself.
      options: The checked arguments that it was made of.
    """

    call: Callable[..., T]
    options: Options

    def __call__(
        self,
        params: Params,
        *batch: Any,
        threshold: ScalarOrSchedule | None = None,
        mask: Any = None,
        key: Array | None = None,
    ) -> T:
        """Compute the gradient of a batch, as `clipped_grad` says."""
        return self.call(params, *batch, threshold=threshold, mask=mask, key=key)

    def sensitivity(
        self,
        relation: Any,
        *,
        params: Params | None = None,
        batch_size: int | None = None,
        threshold: ScalarOrSchedule | None = None,
    ) -> Scalar:
        """Bound how far two neighbouring batches' gradients are apart, in the L2 norm.

        With C the `threshold` and B the number of blocks of the scope, noise apart:

        - `"add_or_remove_one"`: `C sqrt(B)` for the sum, `2 C sqrt(B)/m` for the mean over m
          examples (m = 1: half of it).
        - `"replace_one"`: `2 C sqrt(B)` and `2 C sqrt(B)/m`.
        - `"replace_special"`: `C sqrt(B)` and `C sqrt(B)/m`.

        All responses have the same bound. One example more or less changes the mean's divisor as
        well: with `reduction="sum"`, divided by a constant, it counts once.

        Args:
          relation: One of these, or a member of `dp_accounting.NeighboringRelation`; the last
            replaces an example by one whose gradient is zero ("zero-out").
          params: The parameters or their shapes; needed unless the scope is `"global"`.
          batch_size: Number m of examples that the mask lets in; for a mean, and for a threshold
            that depends on the place of an example.
          threshold: As in a call; None (default) for that of the factory.

        Returns:
          The bound, up to rounding (`clipped_grad`); infinite where the threshold is.

        Raises:
          ValueError: Something is missing that the bound depends on, or nothing bounds it: the
            scope leaves parameters out, or examples change places and with them thresholds.

        Example:
          >>> import clipax
          >>> grad = clipax.clipped_grad(lambda w, x: w * x, 0.5, reduction="sum")
          >>> print(grad.sensitivity("add_or_remove_one"), grad.sensitivity("replace_one"))
          0.5 1.0
        """
        return find_sensitivity(self.options, relation, params, batch_size, threshold)
