"""Schedules of thresholds and learning rates that follow the predicted risk.

N. Marshall, K. L. Xiao, A. Agarwala, C. Paquette, "To Clip or not to Clip: the Dynamics of SGD with
Gradient Clipping in High-Dimensions", arXiv 2406.11733.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import optax

from clipax import _validate
from clipax._typing import Array
from clipax.theory import _arguments
from clipax.theory.dynamics._arguments import (
    check_noise,
    check_spectrum,
    check_start,
    check_steps,
    to_floats,
)
from clipax.theory.dynamics._comparison import find_best_threshold
from clipax.theory.dynamics._reduction_factors import LabelNoise, compute_factors
from clipax.theory.dynamics._risk import check_path, count_steps, solve

__all__ = ["ClipSgdSchedules", "ClippingSchedule", "max_ccc_schedule", "proportional_schedule"]


class ClipSgdSchedules(NamedTuple):
    """Arguments of `clipax.clip_sgd` that change from step to step."""

    learning_rate: optax.Schedule
    threshold: optax.Schedule


class _MaxCcc(NamedTuple):
    """The best threshold, with the rate compensated for its bias."""

    learning_rate: Array

    def __call__(self, step: Array, risk: Array, noise: LabelNoise) -> tuple[Array, Array]:
        threshold = find_best_threshold(noise, risk)
        return self.learning_rate / compute_factors(noise, risk, threshold).mu, threshold


class _Proportional(NamedTuple):
    """A multiple of the residual's scale, with the rate compensated."""

    learning_rate: Array
    kappa: Array
    exact: Array

    def __call__(self, step: Array, risk: Array, noise: LabelNoise) -> tuple[Array, Array]:
        threshold = self.kappa * jnp.sqrt(2 * risk + jnp.asarray(noise.scale, risk.dtype) ** 2)
        mu = compute_factors(noise, risk, threshold).mu
        compensation = jnp.where(self.exact, 1 / mu, jnp.maximum(1, 1 / self.kappa))
        return self.learning_rate * compensation, threshold


@dataclasses.dataclass(frozen=True)
class ClippingSchedule:
    """A threshold and a learning rate over time, and the risk that they lead to.

    Attributes:
      time: From 0 to the horizon; a unit is `dimension` steps.
      risk: The predicted risk.
      threshold: On the residual, infinite where nothing is clipped.
      learning_rate: Compensation included.
      dimension: Intrinsic dimension, the sum of the spectrum.
    """

    time: np.ndarray
    risk: np.ndarray
    threshold: np.ndarray
    learning_rate: np.ndarray
    dimension: float

    def parameters(self) -> ClipSgdSchedules:
        """Make arguments of `clipax.clip_sgd`: `optax` schedules of the step count.

        The rate is divided by the dimension, and the threshold multiplied by its root. Between
        the times the rate and one over the threshold are linear; beyond the horizon both stay.

        Returns:
          `ClipSgdSchedules`: `learning_rate` and `threshold`.
        """
        root = float(np.sqrt(self.dimension))
        steps = self.time * self.dimension

        def interpolate(count: Any, values: np.ndarray) -> Array:
            return jnp.interp(to_floats(count), to_floats(steps), to_floats(values))

        def learning_rate(count: Any) -> Array:
            return interpolate(count, self.learning_rate) / self.dimension

        def threshold(count: Any) -> Array:
            return root / interpolate(count, 1 / self.threshold)

        return ClipSgdSchedules(learning_rate, threshold)


def max_ccc_schedule(
    spectrum: Any,
    start: Any,
    noise: LabelNoise,
    *,
    learning_rate: float,
    horizon: float,
    dt: float = 0.05,
) -> ClippingSchedule:
    """Make the schedule of clipped SGD that is best by the comparison criterion.

    At every risk the `max_ccc_threshold`, with a rate that compensates for the clipped part. It is
    never worse than SGD of the same `learning_rate` (Theorem 3), and the same where clipping does
    not help.

        c(t) = argmax_c mu_c(R_t)^2/m_{2,c}(R_t),
        eta(t) = eta/mu_{c(t)}(R_t)

    with `R_t` the risk that `homogenized_risk` predicts under this very schedule, and `eta` the
    `learning_rate`.

    Args:
      spectrum: Eigenvalues of the covariance of the features, non-negative.
      start: Half the squared coordinates at time 0, non-negative; the shape of `spectrum`.
      noise: Law of the noise of the labels, from `gaussian_noise` and its neighbours. For an
        empirical one the search takes time in proportion to the sample.
      learning_rate: Before the compensation, positive.
      horizon: Last time, positive; a unit is as many steps as the sum of the `spectrum`.
      dt: Step of the time, positive; default .05.

    Returns:
      A `ClippingSchedule`; its `parameters()` are arguments of `clipax.clip_sgd`.

    Notes:
      The threshold is sought in a range (`max_ccc_threshold`). `clipax.max_ccc_sgd` estimates the
      criterion from a window of gradient norms, for problems whose law is not known.

    Example:
      >>> import clipax, numpy as np
      >>> schedule = clipax.theory.dynamics.max_ccc_schedule(
      ...     np.arange(1, 501) ** (-1 / 6), np.full(500, 1 / 1000),
      ...     clipax.theory.dynamics.rademacher_noise(0.8, 0.2), learning_rate=0.4, horizon=15.0,
      ... )
      >>> print(f"{schedule.risk[-1]:.4f}")
      0.0108
      >>> optimizer = clipax.clip_sgd(**schedule.parameters()._asdict())

    References:
      N. Marshall, K. L. Xiao, A. Agarwala, C. Paquette, "To Clip or not to Clip: the Dynamics of
      SGD with Gradient Clipping in High-Dimensions", arXiv 2406.11733, max-CCC.
    """
    control = _MaxCcc(to_floats(float(_arguments.positive("learning_rate", learning_rate))))
    return _make_schedule(spectrum, start, noise, control, horizon, dt)


def proportional_schedule(
    spectrum: Any,
    start: Any,
    noise: LabelNoise,
    *,
    learning_rate: float,
    kappa: float,
    horizon: float,
    compensation: str = "exact",
    dt: float = 0.05,
) -> ClippingSchedule:
    """Make a schedule of one parameter: thresholds in proportion to the residual's deviation.

    Where the best threshold is not known, a share of the deviation is good for many laws.

        c(t) = kappa sqrt(2 R_t + sigma^2),
        eta(t) = eta/mu_{c(t)}(R_t)  or  eta max(1, 1/kappa)

    with `R_t` the risk that `homogenized_risk` predicts under this very schedule, `kappa` the
    `kappa`, `eta` the `learning_rate`, `sigma^2` the second moment of the `noise`, and the first or
    second rate by the `compensation`.

    Args:
      spectrum: Eigenvalues of the covariance of the features, non-negative.
      start: Half the squared coordinates at time 0, non-negative; the shape of `spectrum`.
      noise: Law of the noise of the labels, from `gaussian_noise` and its neighbours; without a
        second moment its raw scale stands for the deviation.
      learning_rate: Before the compensation, positive.
      kappa: Threshold over the residual's deviation, positive.
      horizon: Last time, positive; a unit is as many steps as the sum of the `spectrum`.
      compensation: `"exact"` (default), or `"bound"`, which needs no knowledge of the noise's law.
      dt: Step of the time, positive; default .05.

    Returns:
      A `ClippingSchedule`; its `parameters()` are arguments of `clipax.clip_sgd`.

    Notes:
      Where the noise's law is not known, `clipax.thresholds.rms_of_norms` estimates the deviation
      from an average of the norms.

    Example:
      >>> import numpy as np
      >>> from clipax.theory import dynamics
      >>> for compensation in ("exact", "bound"):
      ...     schedule = dynamics.proportional_schedule(
      ...         np.arange(1, 501) ** (-1 / 6), np.full(500, 1 / 1000),
      ...         dynamics.rademacher_noise(0.8, 0.2), learning_rate=0.4, kappa=0.3, horizon=15.0,
      ...         compensation=compensation,
      ...     )
      ...     print(f"{schedule.risk[-1]:.4f}")
      0.0114
      0.0183

    References:
      N. Marshall, K. L. Xiao, A. Agarwala, C. Paquette, "To Clip or not to Clip: the Dynamics of
      SGD with Gradient Clipping in High-Dimensions", arXiv 2406.11733.
    """
    _validate.one_of("compensation", compensation, ("exact", "bound"))
    control = _Proportional(
        to_floats(float(_arguments.positive("learning_rate", learning_rate))),
        to_floats(float(_arguments.positive("kappa", kappa))),
        jnp.asarray(compensation == "exact"),
    )
    return _make_schedule(spectrum, start, noise, control, horizon, dt)


def _make_schedule(
    spectrum: Any,
    start: Any,
    noise: LabelNoise,
    control: _MaxCcc | _Proportional,
    horizon: float,
    dt: float,
) -> ClippingSchedule:
    eigenvalues = check_spectrum(spectrum)
    initial = check_start(start, eigenvalues)
    horizon = float(_arguments.positive("horizon", horizon))
    dt = float(_arguments.positive("dt", dt))
    check_steps(horizon, dt)
    steps = count_steps(horizon, dt)
    record = solve(
        to_floats(eigenvalues), to_floats(initial), check_noise(noise), control, dt, steps
    )
    risk, rate, threshold = (np.asarray(values) for values in record)
    check_path(risk, "learning_rate", control.learning_rate)
    name = "kappa" if isinstance(control, _Proportional) else "learning_rate"
    check_path(rate, name, getattr(control, name))
    return ClippingSchedule(
        dt * np.arange(steps + 1), risk, threshold, rate, float(eigenvalues.sum())
    )
