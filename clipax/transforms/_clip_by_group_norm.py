"""Clipping on two levels: each group by itself, then all groups together."""

from __future__ import annotations

from typing import Any

import optax

from clipax import _validate, norms, scopes
from clipax._typing import AxisName, NonFinite, ScalarOrSchedule
from clipax.scopes import Scope
from clipax.thresholds import Threshold
from clipax.transforms._scale_by_norm import scale_by_norm

__all__ = ["clip_by_group_norm"]


def clip_by_group_norm(
    threshold: ScalarOrSchedule | Threshold,
    *,
    labels: Any = None,
    total: ScalarOrSchedule | Threshold | None = None,
    scope: str | Scope = "leaf",
    nonfinite: NonFinite = "zero",
    axis_name: AxisName = None,
) -> optax.GradientTransformationExtraArgs:
    """Clip the norm of each group by itself, then that of all groups together.

    Where one layer explodes, a global clip shrinks all others to nothing: below the `eps` of Adam
    they stop to learn. Prefer this there, with `total` to keep a bound of the whole step.

        h_k = min(1, c/||g_k||) g_k,
        u_k = min(1, C/sqrt(sum_j ||h_j||^2)) h_k

    Args:
      threshold: Largest norm `c` of each group `g_k`, as for `norms.clip`.
      labels: Which leaves form a group: a tree of strings with the structure of the parameters or a
        prefix of it, or a function from the path `"encoder/dense/kernel"` to a label; or None.
      total: Largest norm `C` of all groups once clipped, likewise; None (default): no bound.
      scope: The groups without `labels`, as for `scale_by_norm`; default `"leaf"`. Of
        `clipax.scopes`, `stacked` is for scanned kernels, `exclude` for groups that need no clip.
      nonfinite: As for `scale_by_norm`; a group that is not finite counts as zero in the total.
      axis_name: As for `scale_by_norm`.

    Returns:
      A `GradientTransformationExtraArgs` with a `ScaleByNormState`.

    Raises:
      ValueError: `labels` is empty or stands beside a `scope`; when used: a leaf without a label.

    Notes:
      - One read of the gradient and no further communication for both levels: the total is that of
        the clipped norms. Norms are at most `threshold`, and of all `total`, times `1 + 4 eps`.
      - Without `total` no group changes a bit of another's update. With it k groups that spike
        leave at least `total / sqrt(total^2 + k threshold^2)` of the others, if within `total`.
      - An update that is orthogonalised (Muon), or normalised, has one size: a clip in front is no
        use, and fills the total. Leave it out, `scope=scopes.exclude("hidden/*", "leaf")`, or clip
        in the other branch of `optax.partition`. (In Muon's momentum a clip weighs single steps
        differently: against spikes there prefer `skip_spikes`.)

    Example:
      >>> import jax.numpy as jnp, clipax
      >>> clip = clipax.clip_by_group_norm(1.0, labels={"a": "one", "b": "two"})
      >>> grads = {"a": jnp.array([3e7, 4e7]), "b": jnp.array([0.3, 0.4])}
      >>> print(*clip.update(grads, clip.init(grads))[0].values())
      [0.6 0.8] [0.3 0.4]

    References:
      Chezhegov et al., arXiv 2406.04443; Zhang et al., arXiv 1905.11881; no paper has both.
    """
    if labels is not None:
        if scope != "leaf":
            raise ValueError(f"`scope` must not be given beside `labels`, got {scope!r}.")
        scope = scopes.by_label(labels)
    if not (total is None or callable(total) or isinstance(total, Threshold)):
        _validate.threshold("total", total)
    return scale_by_norm(
        norms.clip(threshold),
        total=None if total is None else norms.clip(total),
        scope=scope,
        nonfinite=nonfinite,
        axis_name=axis_name,
    )
