"""The search for a learning rate and a threshold: two rounds of four settings, for every method."""

from __future__ import annotations

import numpy as np

from clipax.lab._compare.methods import Method
from clipax.lab._compare.plan import Setting

__all__ = ["choose", "list_first", "list_second"]

_SECOND = 4


def list_first(method: Method, thresholds: tuple[float, ...]) -> list[Setting]:
    """List the settings of the first round: all rates, with the most usual threshold."""
    threshold = thresholds[0] if thresholds else None
    return [Setting(rate, threshold) for rate in method.rates]


def list_second(method: Method, thresholds: tuple[float, ...], best: Setting) -> list[Setting]:
    """List the settings of the second round, around the best of the first.

    Two rates beyond an end of the rates tried, where the best is one. The others are the other
    thresholds at the best rate, or rates between where there is no threshold: every method has the
    same number of settings. With rates of the user's choice there are no further ones.

    Args:
      method: the method.
      thresholds: those to try, the most usual first; empty where none is searched.
      best: the best setting of the first round.

    Returns:
      The settings.
    """
    beyond: list[float] = []
    if method.refine:
        low, high = method.rates[0], method.rates[-1]
        ratio = (high / low) ** (1 / (len(method.rates) - 1))
        if best.rate == low:
            beyond = [low / ratio, low / ratio**2]
        elif best.rate == high:
            beyond = [high * ratio, high * ratio**2]
    settings = [Setting(_round(rate), best.threshold) for rate in beyond]
    left = _SECOND - len(beyond)
    if thresholds:
        others = dict.fromkeys(value for value in thresholds if value != best.threshold)
        return settings + [Setting(best.rate, value) for value in list(others)[:left]]
    if not method.refine:
        return settings
    inward = {low: (1, 2), high: (-1, -2)}.get(best.rate, (-2, -1, 1, 2))
    between = [best.rate * ratio ** (third / 3) for third in inward]
    return settings + [Setting(_round(rate)) for rate in between]


def choose(validation_loss: np.ndarray, untrained: float) -> int:
    """Choose the setting with the lowest mean validation loss.

    A diverged run counts as the worst loss of any setting, and no less than before training: it is
    a model of no use, but one such run does not hide good ones.

    Args:
      validation_loss: losses for each setting and seed, infinite where the run diverged.
      untrained: the loss before training.

    Returns:
      The index of the setting; the first of equals.
    """
    finite = np.isfinite(validation_loss)
    worst = np.max(validation_loss, where=finite, initial=untrained)
    return int(np.argmin(np.where(finite, validation_loss, worst).mean(axis=1)))


def _round(rate: float) -> float:
    return float(f"{rate:.3g}")
