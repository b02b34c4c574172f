"""What a comparison says, in words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from clipax.lab._compare.norms import Norms
from clipax.lab._compare.results import MethodResult, quantile, write_loss, write_percent
from clipax.lab._compare.settings import QUICK, Settings

__all__ = ["count_wins", "write_verdict"]

# Of a sign test, two-sided: what is called a difference.
_LEVEL = 0.05
# Of the loss: below the first a difference is not worth a clip, however sure it is; medians within
# the second are called equal where no difference is sure.
_WORTH, _NEAR = 0.005, 0.02
_RARE = 5.0
# Why large gradients may do no harm, by optimizer.
_REASONS = {
    **dict.fromkeys(
        ("adam", "adamw", "clip_adam", "stable_adamw", "spam", "stable_spam"),
        "It divides every entry by what that entry was before, so that a large gradient makes a "
        "step of bounded size, and only smaller steps for a while after it.",
    ),
    "lion": "It takes signs of an average alone, so that a large gradient makes no larger step.",
    "muon": "It makes matrices orthogonal, so that a large gradient makes no larger step of them.",
}


def count_wins(result: MethodResult, plain: MethodResult) -> int:
    """Count the seeds on which a method's final loss is below another's."""
    pairs = zip(result.final_loss, plain.final_loss, strict=True)
    return sum(mine < other for mine, other in pairs)


def write_verdict(results: Sequence[MethodResult], norms: Norms, settings: Settings) -> list[str]:
    """Write what the results say.

    Args:
      results: the lowest median test loss first.
      norms: those without a clip.
      settings: what the results were made with.

    Returns:
      Sentences: what the gradients were like, what a clip did for each optimizer that was also run
      without one, and what to do.
    """
    said = [_describe_norms(norms, settings)]
    by_name = {result.method: result for result in results}
    found: list[_Finding] = []
    for name in dict.fromkeys(result.plain for result in results if result.plain in by_name):
        assert name is not None
        clipped = [result for result in results if result.plain == name]
        # By the validation loss: the test loss takes no part in any choice.
        found.append(_compare(min(clipped, key=_selection_loss), by_name[name], norms))
    said += [finding.sentence for finding in found]
    if all(result.diverged > 0.5 for result in results):
        rates = [rate for result in results for rate, _ in result.settings]
        said = [said[0], f"Most runs of every method diverged: try rates below {min(rates):g}."]
    else:
        said.append(_act(results, found))
    if settings.steps <= QUICK["steps"]:
        said.append(
            f"{settings.steps} steps and {settings.seeds} seeds are a trial: a full run may rank "
            f"the methods otherwise."
        )
    return said


def _describe_norms(norms: Norms, settings: Settings) -> str:
    median, high = norms.quantiles([0.5, 0.99])
    noise = settings.corrupt or settings.noise != "none"
    text = (
        f"Without a clip the gradient norm{', noise included,' if noise else ''} has median "
        f"{median:.2g}, 99 % are below {high:.2g} ({high / median:.1f} times the median), "
        f"the largest is {_write_ratio(norms.largest_ratio)} times it"
    )
    far = f"; {write_percent(norms.far)} % are above ten times." if norms.far else "."
    return text + far


def _write_ratio(ratio: float) -> str:
    """Write it, to a tenth where a whole number would say that all are alike."""
    return f"{ratio:.0f}" if ratio >= 3 else f"{ratio:.2g}"


class _Finding(NamedTuple):
    """What the best clip of an optimizer did for it."""

    best: MethodResult
    plain: MethodResult
    outcome: Literal["helps", "harms", "equal", "unknown"]
    sentence: str


def _compare(best: MethodResult, plain: MethodResult, norms: Norms) -> _Finding:
    """Say whether the best clip of an optimizer helped it."""
    seeds = len(plain.seeds)
    wins, losses = count_wins(best, plain), count_wins(plain, best)
    here, there = quantile(best.final_loss, 0.5), quantile(plain.final_loss, 0.5)
    against = (
        f"{best.method} ends at {write_loss(here)}, {plain.method} at {write_loss(there)}, lower "
        f"on {wins} of {seeds} seeds"
    )
    for result in (best, plain):
        if result.diverged:
            against += f"; {result.method} diverged on {round(result.diverged * seeds)}"
    sure = _sign_test(wins, losses) <= _LEVEL
    worth = 0.0 if math.isinf(there) else _WORTH * abs(there)
    saves = best.diverged <= 0.5 < plain.diverged
    if saves or (sure and wins > losses and here < there - worth):
        return _Finding(best, plain, "helps", f"A clip helps {plain.method}: {against}.")
    if sure and losses > wins and here > there + worth:
        return _Finding(best, plain, "harms", f"No clip helps {plain.method}: {against}.")
    if 2.0 ** (1 - seeds) > _LEVEL:
        return _Finding(best, plain, "unknown", f"{against}: too few seeds to tell.")
    if best.diverged or plain.diverged or abs(here - there) > _NEAR * abs(there):
        return _Finding(best, plain, "unknown", f"{against}: no more than chance may do.")
    copes = f"{plain.method} copes without a clip: {against}.{_explain(plain, norms)}"
    return _Finding(best, plain, "equal", copes)


def _explain(plain: MethodResult, norms: Norms) -> str:
    """Say why a clip made no difference, where that is known."""
    if norms.largest_ratio < _RARE:
        return f" No norm was {_RARE:g} times the median: there is little to clip."
    reason = _REASONS.get(plain.method.partition(":")[0])
    return f" {reason}" if reason else ""


def _act(results: Sequence[MethodResult], found: Sequence[_Finding]) -> str:
    """Say what to start with."""
    findings = {
        (finding.best if finding.outcome == "helps" else finding.plain).method: finding
        for finding in found
    }
    paired = [finding.plain.method for finding in found]
    open_ones = [
        result
        for result in results
        if result.method in findings or (result.method not in paired and result.plain not in paired)
    ]
    # One that diverged is nothing to start with, unless all did.
    open_ones = [one for one in open_ones if one.diverged <= 0.5] or open_ones
    best = min(open_ones, key=_selection_loss)
    finding = findings.get(best.method)
    if finding is None or finding.outcome == "helps":
        return f"Start with {best.python}{_say_share(best)}."
    if finding.outcome == "harms":
        return f"Start with {best.python}, without a clip."
    other = finding.best
    return (
        f"Start with {best.python}; against a batch worse than these, {other.python}"
        f"{_say_share(other)}, costs nothing here."
        if finding.outcome == "equal"
        else f"Between {best.python} and {other.python}{_say_share(other)}, a run with more seeds "
        f"decides."
    )


def _say_share(result: MethodResult) -> str:
    shares = result.clip_fraction
    if shares is None or not any(shares):
        return ""
    return f", which clips or skips {write_percent(sum(shares) / len(shares))} % of the steps"


def _selection_loss(result: MethodResult) -> float:
    """The loss by which a method's setting was chosen, or that of the test if none was."""
    if not result.validation_loss:
        return quantile(result.final_loss, 0.5)
    return float(np.mean(result.validation_loss[result.chosen]))


def _sign_test(wins: int, losses: int) -> float:
    """Compute the two-sided p-value of a sign test, ties left out."""
    count = wins + losses
    few = min(wins, losses)
    tail = sum(math.comb(count, k) for k in range(few + 1)) / 2**count
    return min(1.0, 2 * tail)
