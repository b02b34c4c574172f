"""Bad input fails at construction and says what was wrong and what is allowed."""

from __future__ import annotations

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import clipax

BAD = [
    (lambda: clipax.clip_by_global_norm(-1.0), "`max_norm` must be positive, got -1.0."),
    (lambda: clipax.clip_by_global_norm(0), "`max_norm` must be positive, got 0."),
    (lambda: clipax.clip_by_leaf_norm(float("nan")), "`threshold` must be positive, got nan."),
    (lambda: clipax.clip_by_value(np.float32(-2)), "`threshold` must be positive, got"),
    (lambda: clipax.clip_by_smooth_norm(1.0, response="cubic"), "`response` must be one of 'sqrt'"),
    (lambda: clipax.clip_by_value(1.0, response="cubic"), "`response` must be one of 'sqrt'"),
    (lambda: clipax.clip_by_regularized_norm(1.0, 1.5), "`delta` must be in [0, 1], got 1.5."),
    (lambda: clipax.normalize_by_global_norm(-1e-3), "`eps` must be non-negative and finite"),
    (
        lambda: clipax.scale_by_adagrad_norm(b_init=0.0),
        "`b_init` must be in [1e-37, 1e37], got 0.0.",
    ),
    (lambda: clipax.scale_by_adam_norm(b_init=1.0, b2=1.0), "`b2` must be in [0, 1), got 1.0."),
    (lambda: clipax.scale_by_adam_norm(b_init=1.0, b1=-0.1), "`b1` must be in [0, 1), got -0.1."),
    (lambda: clipax.delay_updates(-1), "`delay` must be at least 0, got -1."),
    (lambda: clipax.clip_sgd(-0.1, 1.0), "`learning_rate` must be non-negative and finite"),
    (lambda: clipax.clip_sgd(float("inf"), 1.0), "`learning_rate` must be non-negative and finite"),
    (lambda: clipax.clip_adam_norm(0.1, 1.0, delay=-2), "`delay` must be at least 0, got -2."),
    (lambda: clipax.power_threshold(1.0, 1.0), "`alpha` must be in (1, 2], got 1.0."),
    (lambda: clipax.power_threshold(1.0, 2.5), "`alpha` must be in (1, 2], got 2.5."),
    (lambda: clipax.power_threshold(0.0, 1.5), "`sigma` must be positive and finite"),
    (lambda: clipax.power_threshold(1.0, 1.5, "best"), "`regime` must be one of 'design'"),
    (lambda: clipax.power_threshold(1.0, 1.5, horizon=0), "`horizon` must be at least 1, got 0."),
    (lambda: clipax.clip_by_global_norm(np.ones(3)), "`max_norm` must be a scalar, got an array"),
    (
        lambda: clipax.clip_radagrad_norm(0.1, 1.0, reweight=0.0),
        "`reweight` must be positive and finite, got 0.0.",
    ),
    (lambda: clipax.clip_adagrad(0.1, 0.0), "`threshold` must be positive, got 0.0."),
    (
        lambda: clipax.clip_adagrad(0.1, 1.0, clip="row"),
        "`clip` must be one of 'global', 'leaf', 'coordinate', got 'row'.",
    ),
    (
        lambda: clipax.clip_adagrad(0.1, -1.0, clip="coordinate"),
        "`threshold` must be positive, got -1.0.",
    ),
    (lambda: clipax.clip_adam(0.1, 1.0, b2=1.0), "`b2` must be in [0, 1), got 1.0."),
    (lambda: clipax.clip_adam(0.1, 1.0, b1=-0.1), "`b1` must be in [0, 1), got -0.1."),
    (lambda: clipax.clip_adam(0.1, 1.0, delay=-1), "`delay` must be at least 0, got -1."),
    (
        lambda: clipax.clip_adam(0.1, 1.0, b_init=0.0),
        "`b_init` must be in [1e-37, 1e37], got 0.0.",
    ),
    (
        lambda: clipax.clip_adam(0.1, 1.0, weight_decay=-0.1),
        "`weight_decay` must be non-negative and finite, got -0.1.",
    ),
    (lambda: clipax.mixed_clip_sgd(0.1, 0.0), "`max_step` must be positive, got 0.0."),
    (lambda: clipax.mixed_clip_sgd(0.1, 1.0, nu=1.5), "`nu` must be in [0, 1], got 1.5."),
    (lambda: clipax.mixed_clip_sgd(0.1, 1.0, decay=1.0), "`decay` must be in [0, 1), got 1.0."),
    (
        lambda: clipax.momentum_clip_sgd(0.1, 1.0, response="firm"),
        "`response` must be one of 'hard', 'soft', got 'firm'.",
    ),
    (
        lambda: clipax.momentum_clip_sgd(0.1, 1.0, weight_decay=-1.0),
        "`weight_decay` must be non-negative and finite, got -1.0.",
    ),
    (
        lambda: clipax.clip_normalized_momentum(0.1, float("nan")),
        "`threshold` must be positive, got nan.",
    ),
    (lambda: clipax.normalized_momentum(-0.1), "`learning_rate` must be non-negative and finite"),
    (lambda: clipax.acclip(0.1, alpha=0.5), "`alpha` must be in [1, 2], got 0.5."),
    (lambda: clipax.acclip(0.1, eps=0.0), "`eps` must be positive and finite, got 0.0."),
    (lambda: clipax.clip_by_block_rms(0.0), "`threshold` must be positive, got 0.0."),
    (lambda: clipax.stable_adamw(-0.1), "`learning_rate` must be non-negative and finite"),
    (lambda: clipax.stable_adamw(0.1, b2=1.0), "`b2` must be in [0, 1), got 1.0."),
    (lambda: clipax.stable_adamw(0.1, eps=0.0), "`eps` must be finite and at least 1e-37, got 0.0"),
    (lambda: clipax.spam(0.1, theta=0.0), "`theta` must be positive, got 0.0."),
    (lambda: clipax.spam(0.1, b1=1.0), "`b1` must be in [0, 1), got 1.0."),
    (lambda: clipax.spam(0.1, reset=0), "`reset` must be at least 1, got 0."),
    (lambda: clipax.spam(0.1, warmup=-1), "`warmup` must be at least 0, got -1."),
    (lambda: clipax.spam(0.1, clip_from=-1), "`clip_from` must be at least 0, got -1."),
    (lambda: clipax.spam(0.1, weight_decay=-1.0), "`weight_decay` must be non-negative"),
    (lambda: clipax.stable_spam(0.1, peak_decay=1.0), "`peak_decay` must be in [0, 1), got 1.0."),
    (lambda: clipax.stable_spam(0.1, norm_decay=-0.1), "`norm_decay` must be in [0, 1), got -0.1."),
    (lambda: clipax.stable_spam(0.1, square_decay=1.5), "`square_decay` must be in [0, 1), got 1."),
    (lambda: clipax.stable_spam(0.1, reset=-5), "`reset` must be at least 1, got -5."),
    (
        lambda: clipax.clipped_sstm(0.0, a=1.0, clip_constant=1.0),
        "`smoothness` must be positive and finite, got 0.0.",
    ),
    (
        lambda: clipax.clipped_sstm(1.0, a=-1.0, clip_constant=1.0),
        "`a` must be positive and finite, got -1.0.",
    ),
    (
        lambda: clipax.clipped_sstm(1.0, a=1.0, clip_constant=0.0),
        "`clip_constant` must be positive, got 0.0.",
    ),
]


@pytest.mark.parametrize(("make", "message"), BAD)
def test_bad_values(make, message):
    with pytest.raises(ValueError) as caught:  # noqa: PT011  (the whole text is compared)
        make()
    assert str(caught.value).startswith(message)


def test_single_entries_have_no_threshold_of_norms():
    with pytest.raises(TypeError, match="`threshold` must be a number or a schedule for clip='coo"):
        clipax.clip_adam(0.1, clipax.thresholds.quantile(0.5), clip="coordinate")


@pytest.mark.parametrize("value", ["1.0", None, True, [1.0], object()])
def test_what_is_no_number_is_a_type_error(value):
    for make in (
        lambda: clipax.clip_by_global_norm(value),
        lambda: clipax.normalize_by_global_norm(value),
        lambda: clipax.clip_sgd(value, 1.0),
    ):
        with pytest.raises(TypeError, match="must be a number, got"):
            make()


@pytest.mark.parametrize("delay", [1.5, "1", True])
def test_delays_are_concrete_integers(delay):
    with pytest.raises(TypeError, match="`delay` must be"):
        clipax.delay_updates(delay)


def test_traced_integers_are_refused_with_the_way_out():
    with pytest.raises(TypeError, match="static_args"):
        jax.jit(lambda delay: clipax.delay_updates(delay).init(jnp.ones(1)))(2)
    injected = optax.inject_hyperparams(clipax.clip_adagrad_norm)
    optimizer = injected(learning_rate=0.1, threshold=1.0, delay=1)
    with pytest.raises(TypeError, match="static_args"):
        jax.jit(optimizer.init)(jnp.ones(1))


@pytest.mark.parametrize("delay", [np.int64(1), jnp.array(1)])
def test_anything_with_an_index_is_a_delay(delay):
    assert clipax.delay_updates(delay).init(jnp.ones(3)).slots.shape == (2, 3)


@pytest.mark.parametrize("threshold", [1, 1.0, np.float32(1), np.array(1.0), jnp.array(1.0)])
def test_any_scalar_is_a_threshold(threshold):
    clip = clipax.clip_by_global_norm(threshold)
    grads = jnp.array([3.0, 4.0], jnp.bfloat16)
    update, _ = clip.update(grads, clip.init(grads))
    np.testing.assert_allclose(np.asarray(update, np.float32), [0.6, 0.8], rtol=1e-2)


def test_chains_take_transformations_of_norms_only():
    with pytest.raises(TypeError, match=r"`rules` must be made by `clipax.norms`"):
        clipax.norms.chain(clipax.clip_by_global_norm(1.0))
    with pytest.raises(TypeError, match=r"`inner` must be an optax gradient transformation"):
        clipax.skip_nonfinite(0.1)


def test_importing_starts_no_backend():
    # Otherwise it would be too late to say how many devices or processes there are.
    script = "import clipax, jax; jax.config.update('jax_num_cpu_devices', 3); print(jax.devices())"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.count("CpuDevice") == 3
