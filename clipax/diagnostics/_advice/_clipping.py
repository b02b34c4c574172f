"""What the clips of a run did, and what a given threshold would have done, in words."""

from __future__ import annotations

import numpy as np

from clipax.diagnostics._advice import _words
from clipax.diagnostics._advice._evidence import ClipRecord, Evidence
from clipax.diagnostics._advice._series import Clipping, judge
from clipax.diagnostics._advice._words import number, percent

__all__ = [
    "count_norms",
    "describe_clips",
    "describe_given",
    "describe_shares_of_blocks",
    "describe_tenths",
]

_MOST = 0.5
"""The share of clipped steps from which on a clip sets the size of the steps."""
_MOVED = 0.1
"""The difference between the shares of all and of recent steps that is worth a word."""
_FEW = 0.1
"""The share up to which a clip cuts few steps."""


def describe_clips(evidence: Evidence) -> list[str]:
    """Say what the clips of the run did, each by its blocks."""
    said = []
    for place, clip in enumerate(evidence.clips):
        several = len(evidence.clips) > 1
        subject = f"Clip {place + 1} of {len(evidence.clips)}: " if several else ""
        series = evidence.series
        counted = None if series is None else series.counted_share
        if clip.share == 0 and not counted:
            logged = "logged " if series is not None and series.spacing > 1 else ""
            steps = f"{evidence.finite:,} {logged}finite steps"
            # "Never" is for a run: here another group, or another clip, may act at every step.
            partial = several or bool(evidence.name)
            never = f"none of {steps} is clipped" if partial else f"never clipped in {steps}"
            never += f", in none of {len(clip.blocks)} blocks" if clip.blocks else ""
            text = f"{never}: {'this' if partial else 'the'} threshold does nothing."
        else:
            text = _describe_clip(evidence, clip)
        said.append(f"{subject}{text}" if several else text[0].upper() + text[1:])
    return said


def _describe_clip(evidence: Evidence, clip: ClipRecord) -> str:
    finite, series = evidence.finite, evidence.series
    text = f"{percent(clip.share)} of {finite:,} finite steps are clipped"
    if clip.blocks:
        if series is None:
            text += f", on average over {len(clip.blocks)} blocks"
        else:
            text += " in at least one block"
        text += _describe_blocks(clip.blocks)
    elif series is not None and series.is_largest:
        text += " in at least one block"
    if clip.recent is not None and _moved(clip.share, clip.recent, finite):
        lately = percent(round(clip.recent, 2))
        text += f"; lately {lately} (an average that forgets in about 100 steps)"
    if series is not None and series.clipped is not None:
        text += _describe_order(evidence, judge(series, series.clipped))
        counted = series.counted_share
        if not clip.blocks and counted is not None and abs(counted - clip.share) > 0.005:
            mean = ", the mean over the blocks," if series.is_largest else ""
            text += f". The run's own `clip_fraction`{mean} is {percent(counted)}"
    if clip.share > _MOST:
        text += f". {_describe_most(evidence)}"
    return f"{text}."


def _moved(share: float, recent: float, finite: int) -> bool:
    """Tell whether the clip acts now as it did not over the whole run."""
    if abs(recent - share) > _MOVED:
        return True
    few, many = sorted((share, recent))
    # Of a small share, a clip that stopped or began to act; after enough steps to say so.
    return finite >= 200 and many > 0.02 and few < many / 4


def _describe_blocks(blocks: tuple[tuple[str, float], ...]) -> str:
    """Say how blocks differ, by name."""
    ordered = sorted(blocks, key=lambda block: -block[1])
    if len(ordered) <= 5:
        listed = ", ".join(f"`{name}` {percent(share)}" for name, share in ordered)
        return f" ({listed})"
    never = [name for name, share in ordered if share == 0]
    mostly = [name for name, share in ordered if share > _MOST]
    (top, most), (bottom, least) = ordered[0], ordered[-1]
    text = f" (from {percent(least)} in `{bottom}` to {percent(most)} in `{top}`"
    if never:
        text += f"; never in {len(never)}: {_words.quoted(never)}"
    if mostly:
        text += f"; at most steps in {len(mostly)}: {_words.quoted(mostly)}"
    return f"{text})"


def _describe_order(evidence: Evidence, clipping: Clipping, *, always: bool = False) -> str:
    """Say when steps were clipped: the longest stretch, and tenths where they differ."""
    series = evidence.series
    if series is None or not clipping.clipped:
        return ""
    text = ""
    if (longest := clipping.longest) is not None and longest.length > 1:
        logged = "logged " if series.spacing > 1 or series.word == "row" else ""
        where = series.between(longest.first, longest.last)
        text += f", at most {longest.length:,} {logged}steps in a row ({where})"
    if clipping.tenths.size and (always or not clipping.is_even):
        text += f"; {describe_tenths(evidence, clipping)}"
    return text


def describe_tenths(evidence: Evidence, clipping: Clipping) -> str:
    """Say which share of each tenth of the run is clipped, and from when on none."""
    tenths, series = clipping.tenths, evidence.series
    if np.ptp(tenths) == 0:
        return "the same in every tenth of the run"
    text = f"by tenth of the run {_words.shares(tenths)}"
    if tenths[-1] == 0 and not clipping.is_even and series is not None:
        text += f", none after {series.between(clipping.last, clipping.last)}"
    return text


def _describe_most(evidence: Evidence) -> str:
    """Say what it means that most steps are clipped."""
    if evidence.divides:
        return (
            "What reaches the optimizer has mostly the same norm, and it divides by the size of "
            "the gradients: the threshold itself cancels, and large steps weigh no more than others"
        )
    return (
        "The clip sets the size of most steps: under SGD the threshold is then part of the "
        "learning rate, to change it is to change the rate; Adam and its kin cancel it"
    )


def describe_given(evidence: Evidence, threshold: float) -> tuple[float | None, list[str]]:
    """Judge a threshold that the user has: the share that it clips, when, and what that means."""
    norms = evidence.norms
    subject = f"The threshold {threshold:g}"
    if norms is None:
        return None, [f"{subject} cannot be judged: the norms are not remembered."]
    counted = count_norms(evidence)
    if not counted:
        return None, [f"{subject} cannot be judged: there is no finite step."]
    least, most = norms.count_above(threshold)
    behind = "" if evidence.is_raw else ", going by norms behind a clip,"
    subject, what = f"{subject}{behind} clips", f"{counted:,} {_what(evidence)}"
    if not most:
        return 0.0, [f"{subject} none of {what}: {_reach(evidence)}"]
    if least != most:
        text = (
            f"{subject} between {percent(least / counted)} and {percent(most / counted)} of {what} "
            "(a state counts in bins)"
        )
    elif least == counted:
        text = f"{subject} all {what}"
    else:
        text = f"{subject} {percent(least / counted)} of {what} ({least:,})"
    meaning = ""
    if (series := evidence.series) is not None:
        clipping = judge(series, series.norms > threshold)
        text += _describe_order(evidence, clipping, always=True)
        place = int(np.argmax(np.where(series.is_finite, series.norms, 0)))
        meaning = (
            f"It cuts {'few' if clipping.share <= _FEW else 'many'} steps, "
            f"{series.between(place, place)} the most: to "
            f"{number(threshold / float(series.norms[place]))} of its length"
        )
    text += describe_shares_of_blocks(evidence, threshold)
    share = (least + most) / 2 / counted
    meaning = _describe_most(evidence) if share > _MOST else meaning
    return share, [f"{text}. {meaning}." if meaning else f"{text}."]


def _reach(evidence: Evidence) -> str:
    norms = evidence.norms
    if norms is None or not norms.total:
        return "all norms are 0."
    largest = number(norms.quantile(1.0))
    return f"the largest norm is {largest}, so it does nothing but guard against larger ones."


def count_norms(evidence: Evidence) -> int:
    """Return how many norms shares are shares of: all finite steps, or what a state counted."""
    if evidence.series is not None or evidence.norms is None:
        return evidence.finite
    return evidence.norms.total + evidence.zeros


def _what(evidence: Evidence) -> str:
    return "norms" if evidence.blocks else "finite steps"


def describe_shares_of_blocks(evidence: Evidence, threshold: float) -> str:
    """Say where one threshold does not suit all blocks."""
    shares = []
    for name, block in evidence.blocks:
        if block.total:
            least, most = block.count_above(threshold)
            shares.append((name, (least + most) / 2 / int(block.counts.sum())))
    if len(shares) < 2:
        return ""
    return "; by block" + _describe_blocks(tuple(shares))
