"""The division of the noise between gradient and count.

G. Andrew, O. Thakkar, H. B. McMahan, S. Ramaswamy, "Differentially Private Learning with Adaptive
Clipping", NeurIPS 2021, arXiv 1905.03871.
"""

from __future__ import annotations

import math

from clipax import _validate

__all__ = ["noise_split"]


def noise_split(noise_multiplier: float, count_noise: float) -> float:
    """Compute the noise multiplier that remains for the gradient when the count is noised too.

    Gradients noised with `z_Delta` and counts noised with `s_b` are together as private as
    gradients alone noised with `z`. For a threshold that follows the norms of private examples,
    `thresholds.geometric_quantile(noise=count_noise)`.

        z_Delta = (z^(-2) - (2 s_b)^(-2))^(-1/2)

    Args:
      noise_multiplier: `z`, the noise multiplier of the whole step; positive.
      count_noise: `s_b`, the `noise` of `geometric_quantile`; more than `z/2`, as with less the
        count alone tells more than is allowed.

    Returns:
      The noise multiplier `z_Delta` of the gradient, more than `noise_multiplier`.

    Example:
      >>> import clipax
      >>> print(f"{clipax.per_example.noise_split(1.0, count_noise=5.0):.4f}")
      1.0050

    References:
      G. Andrew, O. Thakkar, H. B. McMahan, S. Ramaswamy, "Differentially Private Learning with
      Adaptive Clipping", NeurIPS 2021, arXiv 1905.03871, Algorithm 1.
    """
    _validate.positive("noise_multiplier", noise_multiplier)
    _validate.positive("count_noise", count_noise)
    z, of_count = float(noise_multiplier), 2 * float(count_noise)
    if of_count <= z:
        raise ValueError(
            f"`count_noise` must be more than half of `noise_multiplier` = {noise_multiplier!r}, "
            f"got {count_noise!r}."
        )
    return z / math.sqrt(1 - (z / of_count) ** 2)
