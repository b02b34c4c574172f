"""What a comparison says in words, for each of its outcomes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from clipax.lab._compare.settings import Settings
from clipax.lab._compare.verdict import count_wins, write_verdict
from tests.lab.compare.made_results import NORMS, make

SETTINGS = Settings()
LOSSES = [0.50, 0.52, 0.48, 0.51, 0.49, 0.53, 0.47, 0.50]
CALM = replace(NORMS, largest_ratio=2.0, far=0.0)


def say(results, norms=NORMS, settings=SETTINGS):
    return write_verdict(results, norms, settings)


def pair(shifts, base="adamw", plain=LOSSES, **changes):
    clip = make(
        f"clip_by_zscore+{base}",
        [loss + shift for loss, shift in zip(plain, shifts, strict=True)],
        plain=base,
        clip_fraction=(0.03,) * 8,
        **changes,
    )
    return [clip, make(base, plain)]


def test_norms_are_told_first():
    assert say(pair([0.0] * 8))[0] == (
        "Without a clip the gradient norm, noise included, has median 1.5, 99 % are below 2 (1.3 "
        "times the median), the largest is 40 times it; 1 % are above ten times."
    )
    assert say(pair([0.0] * 8), CALM)[0].endswith("the largest is 2 times it.")
    nearly_equal = replace(CALM, largest_ratio=1.4)
    assert say(pair([0.0] * 8), nearly_equal)[0].endswith("the largest is 1.4 times it.")


def test_a_clip_that_helps_is_what_to_start_with():
    _, said, act = say(pair([-0.1] * 8))
    assert said == (
        "A clip helps adamw: clip_by_zscore+adamw ends at 0.400, adamw at 0.500, lower on 8 of 8 "
        "seeds."
    )
    assert act == (
        "Start with optax.clip_by_zscore+adamw(learning_rate=0.1), which clips or skips 3 % of "
        "the steps."
    )


def test_an_optimizer_that_copes_is_told_with_the_reason():
    shifts = [-0.005, 0.005] * 4
    _, said, act = say(pair(shifts))
    assert said.startswith("adamw copes without a clip: clip_by_zscore+adamw ends at ")
    assert "lower on 4 of 8 seeds. It divides every entry by what that entry was before" in said
    assert act == (
        "Start with optax.adamw(learning_rate=0.1); against a batch worse than these, "
        "optax.clip_by_zscore+adamw(learning_rate=0.1), which clips or skips 3 % of the steps, "
        "costs nothing here."
    )
    assert "there is little to clip" not in said
    assert "No norm was 5 times the median: there is little to clip." in say(pair(shifts), CALM)[1]


def test_a_difference_that_is_sure_but_tiny_is_none():
    assert say(pair([-0.0005] * 8))[1].startswith("adamw copes without a clip")


def test_a_clip_that_harms_is_told():
    _, said, act = say(pair([0.1] * 8))
    assert said.startswith("No clip helps adamw: clip_by_zscore+adamw ends at 0.600")
    assert act == "Start with optax.adamw(learning_rate=0.1), without a clip."


def test_divergence_is_told_and_never_copes():
    clip, plain = pair([-0.1] * 8)
    lost = make("adamw", LOSSES[:5], diverged=3)
    said = say([clip, replace(lost, seeds=plain.seeds)])[1]
    assert said.startswith("A clip helps adamw")
    assert said.endswith("; adamw diverged on 3.")
    clip, plain = pair([0.01, -0.01] * 4)
    lost = make("adamw", LOSSES[:6], diverged=2)
    _, said, act = say([clip, replace(lost, seeds=plain.seeds)])
    assert said.endswith("adamw diverged on 2: no more than chance may do.")
    assert act.startswith("Between ")


def test_where_all_diverged_there_is_nothing_to_start_with():
    lost = [
        make("clip_by_zscore+adamw", [], diverged=8, plain="adamw"),
        make("adamw", [], diverged=8),
    ]
    assert say(lost)[1:] == ["Most runs of every method diverged: try rates below 0.01."]


@pytest.mark.parametrize("shift", [-0.05, 0.05])
def test_a_difference_that_is_large_but_not_sure_is_not_called_equal(shift):
    _, said, act = say(pair([shift] * 6 + [-shift] * 2))
    assert said.endswith("seeds: no more than chance may do.")
    assert act.startswith("Between ")


@pytest.mark.parametrize(("shift", "word"), [(-0.1, "A clip helps"), (0.1, "No clip helps")])
def test_losses_may_be_negative(shift, word):
    negative = [loss - 5.0 for loss in LOSSES]
    assert say(pair([shift] * 8, plain=negative))[1].startswith(word)


def test_the_reason_is_that_of_the_optimizer():
    shifts = [-0.001, 0.001] * 4
    assert "takes signs of an average" in say(pair(shifts, "lion"))[1]
    assert say(pair(shifts, "sgd"))[1].endswith("lower on 4 of 8 seeds.")


def test_few_seeds_tell_nothing():
    clip, plain = (
        replace(result, seeds=result.seeds[:4], scores={"loss": result.loss[:4]})
        for result in pair([-0.1] * 8)
    )
    _, said, act = say([clip, plain])
    assert said.endswith("lower on 4 of 4 seeds: too few seeds to tell.")
    assert act.startswith("Between optax.adamw(learning_rate=0.1) and optax.clip_by_zscore+adamw(")


def test_the_best_clip_is_the_one_of_the_validation_loss():
    better = make("clip_by_ema+adamw", [0.1] * 8, plain="adamw", chosen=0)
    # Its test loss is lower, but its setting was not the better one on validation.
    said = say([better, *pair([-0.1] * 8)])[1]
    assert "clip_by_zscore+adamw ends at 0.400" in said


def test_every_optimizer_with_and_without_a_clip_is_told():
    said = say([*pair([-0.1] * 8), *pair([0.0] * 8, "sgd")])
    assert [line.split(":")[0] for line in said[1:3]] == [
        "A clip helps adamw",
        "sgd copes without a clip",
    ]


def test_a_trial_says_that_it_is_one():
    said = say(pair([-0.1] * 8), settings=Settings(steps=60, seeds=4))
    assert said[-1] == (
        "60 steps and 4 seeds are a trial: a full run may rank the methods otherwise."
    )


def test_alone_the_best_method_is_what_to_start_with():
    worse = make("acclip", [2.0] * 8, chosen=0)
    clipping = make("clip_adam_norm", LOSSES, clip_fraction=(0.1,) * 8)
    assert say([clipping, worse])[1:] == [
        "Start with optax.clip_adam_norm(learning_rate=0.1), which clips or skips 10 % of the "
        "steps."
    ]
    # One that is better than every pair is what to start with, too.
    act = say([replace(clipping, chosen=1), *pair([-0.1] * 8, chosen=0)])[-1]
    assert act.startswith("Start with optax.clip_adam_norm(learning_rate=0.1)")


@pytest.mark.parametrize(("losses", "wins"), [([0.4] * 8, 8), ([0.6] * 8, 0), (LOSSES, 0)])
def test_wins_are_counted_seed_by_seed(losses, wins):
    assert count_wins(make("a", losses), make("b", LOSSES)) == wins
