"""Optimizers of `pytorch_optimizer` over one sequence of gradients, and where they differ."""

from __future__ import annotations

import math

import jax
import numpy as np
import optax
import pytest

import clipax
from tests.peers.harness import BURST, assert_alike, ours, steps, to_torch, torch, trees

theirs = pytest.importorskip("pytorch_optimizer")

PARAMS, GRADIENTS = trees()
RATE = 0.1


def adagc(parameters, **options):
    return theirs.AdaGC(parameters, lr=RATE, beta=0.9, weight_decay=0.0, **options)


def ema_norm(**options):
    # Without the floor, which the paper does not have.
    return clipax.clip_by_ema(decay=0.9, floor=0.0, **options)


def test_adagc(x64):
    """The published AdaGC follows the paper but for roundings, and ends its warm-up a step early.

    Its warm-up lasts `warmup_steps - 1` steps (those numbered, from 1, below `warmup_steps`). It
    adds 1e-8 to the global norm, measures that in float32 whatever the parameters are, and keeps
    averages and norms from falling below 1e-8: hence the tolerance.
    """
    expected = steps(lambda own: adagc(own, warmup_steps=6), PARAMS, GRADIENTS)
    method = optax.chain(ema_norm(warmup=5), optax.adam(RATE))
    assert_alike(ours(method, PARAMS, GRADIENTS), expected, 1e-5)
    # The clip bites: without it Adam's steps are others.
    assert_differs(ours(optax.adam(RATE), PARAMS, GRADIENTS), expected, BURST[0])


def test_the_averages_of_adagc(x64):
    """Return the memory of each tensor, which Adam's steps would hide."""
    own = {path: torch.nn.Parameter(to_torch(leaf)) for path, leaf in PARAMS.items()}
    optimizer = adagc(list(own.values()), warmup_steps=6)
    clip = ema_norm(warmup=5)
    state = clip.init(PARAMS)
    for gradient in GRADIENTS:
        for path, leaf in gradient.items():
            own[path].grad = to_torch(leaf)
        optimizer.step()
        _, state = jax.jit(clip.update)(gradient, state)
        averages = [optimizer.state[own[path]]["gamma"] for path in clipax.block_names(state)]
        np.testing.assert_allclose(state.rules.before.rows.average, averages, rtol=1e-6)
    assert clipax.metrics(state)["clip_fraction"] > 0.1


def test_a_zero_gradient_in_the_warm_up_of_adagc(x64):
    """Its average is zero for ever and lets 1e-8 pass, as the paper's would; ours forgets zeros."""
    gradients = [
        {**one, "kernel": one["kernel"] * (step != 2)} for step, one in enumerate(GRADIENTS)
    ]
    own = {path: torch.nn.Parameter(to_torch(leaf)) for path, leaf in PARAMS.items()}
    optimizer = adagc(list(own.values()), warmup_steps=6)
    clip = ema_norm(warmup=5)
    state = clip.init(PARAMS)
    for gradient in gradients:
        for path, leaf in gradient.items():
            own[path].grad = to_torch(leaf)
        optimizer.step()
        update, state = jax.jit(clip.update)(gradient, state)
    assert optimizer.state[own["kernel"]]["gamma"] < 1e-7
    assert np.linalg.norm(update["kernel"]) > 0.1 * np.linalg.norm(gradients[-1]["kernel"])


SPAM = {"reset": 10, "theta": 20.0, "clip_from": 3}


def published_spam(parameters, *, warmup):
    return theirs.SPAM(
        parameters,
        lr=RATE,
        threshold=20.0,
        update_proj_gap=10,
        grad_accu_steps=3,
        warmup_epoch=warmup,
        eps=1e-30,
    )


def test_spam(x64):
    """Alike without `eps` and without warm-up: the cut, its start after a reset, the resets.

    `eps` (1e-6 there) is added to the root of the second moment before the bias correction, as the
    authors' code has it; in the paper it is added after.
    """
    expected = steps(lambda own: published_spam(own, warmup=0), PARAMS, GRADIENTS)
    method = clipax.spam(RATE, warmup=None, eps=1e-30, **SPAM)
    assert_alike(ours(method, PARAMS, GRADIENTS, moving=True), expected, 1e-12)
    without = clipax.spam(RATE, warmup=None, eps=1e-30, **SPAM | {"theta": math.inf})
    assert_differs(ours(without, PARAMS, GRADIENTS, moving=True), expected, BURST[0])


def test_the_warm_up_of_spam_is_a_step_early(x64):
    """The published one takes the cosine a step ahead: at the reset it stands where ours is next.

    The authors' code (and ours) begins at 0.01 in the step of the reset.
    """
    warmup = 5
    expected = steps(lambda own: published_spam(own, warmup=warmup), PARAMS, GRADIENTS)
    method = clipax.spam(RATE, warmup=warmup, eps=1e-30, **SPAM)
    updates = ours(method, PARAMS, GRADIENTS, moving=True)

    def scale(step):
        return 1 - 0.99 * (1 + math.cos(math.pi * step / (warmup + 1))) / 2

    for number, (one, other) in enumerate(zip(updates, expected, strict=True), start=1):
        since = number % 10
        late = number >= 10 and since < warmup
        ratio = scale(since + 1) / scale(since) if late else 1.0
        scaled = {path: ratio * leaf for path, leaf in one.items()}
        assert_alike([scaled], [other], 1e-12)


def test_an_entry_that_starts_with_zeros_is_dead_in_spam(x64):
    """Cut at the root of its moment it stays zero for ever, as in the paper; ours is not cut."""
    gradients = [jax.tree.map(np.copy, one) for one in GRADIENTS]
    for one in gradients[:5]:
        one["kernel"][0, 0] = 0.0
    expected = steps(lambda own: published_spam(own, warmup=0), PARAMS, gradients)
    method = clipax.spam(RATE, warmup=None, eps=1e-30, **SPAM)
    updates = ours(method, PARAMS, gradients, moving=True)
    # From the fifth step on until the reset in the tenth.
    assert all(one["kernel"][0, 0] == 0 for one in expected[5:9])
    assert all(one["kernel"][0, 0] != 0 for one in updates[5:9])
    assert_alike(updates[9:], expected[9:], 1e-12)


STABLE = {"reset": 10}


def published_stable_spam(parameters):
    return theirs.StableSPAM(parameters, lr=RATE, update_proj_gap=10)


def test_stable_spam(x64):
    """Alike: the cut of entries, the norms, the averages and their resets."""
    expected = steps(published_stable_spam, PARAMS, GRADIENTS)
    method = clipax.stable_spam(RATE, **STABLE)
    assert_alike(ours(method, PARAMS, GRADIENTS, moving=True), expected, 1e-12)
    assert_differs(ours(optax.adam(RATE), PARAMS, GRADIENTS), expected, BURST[0])


def test_a_zero_gradient_in_stable_spam(x64):
    """The published one leaves such a tensor out, its momentum too; ours moves along the momentum.

    The paper divides by the norm, and does not say what happens where it is zero.
    """
    gradients = [
        {**one, "kernel": one["kernel"] * (step != 4)} for step, one in enumerate(GRADIENTS)
    ]
    expected = steps(published_stable_spam, PARAMS, gradients)
    updates = ours(clipax.stable_spam(RATE, **STABLE), PARAMS, gradients, moving=True)
    assert (expected[4]["kernel"] == 0).all()
    assert (updates[4]["kernel"] != 0).all()
    others = [[{**one, "kernel": np.zeros(())} for one in each] for each in (updates, expected)]
    assert_alike(*others, 1e-12)


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_stable_adamw(x64, weight_decay):
    """Alike, with and without decay, which is clipped together with the rate."""
    options = {"eps": 1e-6, "weight_decay": weight_decay}
    expected = steps(lambda own: theirs.StableAdamW(own, lr=RATE, **options), PARAMS, GRADIENTS)
    method = clipax.stable_adamw(RATE, **options)
    assert_alike(ours(method, PARAMS, GRADIENTS, moving=True), expected, 1e-12)
    plain = optax.adamw(RATE, b2=0.99, **options)
    assert_differs(ours(plain, PARAMS, GRADIENTS, moving=True), expected, BURST[0])


def assert_differs(actual, expected, step):
    """So that agreement is about something: without the clip this step is another."""
    error = max(np.abs(actual[step][path] - leaf).max() for path, leaf in expected[step].items())
    assert error > 1e-3 * RATE
