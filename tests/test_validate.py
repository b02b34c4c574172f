"""Bad input fails at construction and says what was wrong and what is allowed."""

from __future__ import annotations

import inspect
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import clipax
from clipax import norms, thresholds

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


@pytest.mark.parametrize("warmup", [2.5, jnp.float32(2), jnp.ones(2, int)])
def test_a_traced_integer_that_fixes_no_shape_must_still_be_one(warmup):
    with pytest.raises(TypeError, match="`warmup` must be"):
        jax.jit(lambda warmup: clipax.clip_by_zscore(warmup=warmup).init(jnp.ones(1)))(warmup)


def test_a_run_per_warm_up_is_vectorised():
    def limit(warmup):
        clip = clipax.clip_by_zscore(warmup=warmup)
        state = clip.init(jnp.ones(1))
        for _ in range(3):
            _, state = clip.update(jnp.ones(1), state)
        return state.telemetry.threshold

    limits = jax.vmap(limit)(jnp.array([1, 2, 10]))
    assert (limits < 2).tolist() == [True, True, False]


def test_a_default_that_fixes_a_shape_is_left_alone_when_hyper_parameters_are_injected():
    default = inspect.signature(clipax.thresholds.median).parameters["window"].default
    assert (repr(default), default == 100, hash(default)) == ("100", True, hash(100))
    tx = optax.inject_hyperparams(clipax.clip_by_median)(scale=3.0)
    assert set(tx.init(jnp.ones(2)).hyperparams) == {"scale"}


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


ARRAYS = [
    ("b2", lambda value: clipax.clip_adam_norm(0.1, 1.0, b2=value), 2.0),
    ("b2", lambda value: clipax.clip_adam(0.1, 1.0, b2=value), -1.0),
    ("b_init", lambda value: clipax.scale_by_adagrad_norm(b_init=value), float("nan")),
    ("delta", lambda value: clipax.clip_by_regularized_norm(1.0, value), float("nan")),
    ("max_norm", clipax.clip_by_global_norm, 0.0),
    ("learning_rate", lambda value: clipax.clip_sgd(value, 1.0), -1.0),
    ("decay", lambda value: clipax.mixed_clip_sgd(0.1, 1.0, decay=value), 1.0),
]


@pytest.mark.parametrize(("name", "make", "value"), ARRAYS)
@pytest.mark.parametrize("kind", [jnp.asarray, np.asarray, np.float32, jnp.bfloat16])
def test_concrete_arrays_are_checked(name, make, value, kind):
    with pytest.raises(ValueError, match=f"`{name}` must be"):
        make(kind(value))


def test_traced_numbers_pass():
    for _, make, value in ARRAYS:
        jax.eval_shape(lambda traced, make=make: make(traced).init(jnp.ones(2)), jnp.asarray(value))


NO_NUMBER = {
    "text": np.array("abc"),
    "complex": np.array(1j),
    "key": jax.random.key(0),
    "flag": np.array(True),
    "flags": jnp.array([True]),
}


@pytest.mark.parametrize("value", NO_NUMBER.values(), ids=NO_NUMBER)
def test_arrays_that_are_no_real_number(value):
    for make in (clipax.clip_by_leaf_norm, clipax.thresholds.median):
        with pytest.raises(TypeError, match=r"`(threshold|scale)` must be a number, got an array"):
            make(value)


def test_numbers_beyond_the_floats():
    with pytest.raises(ValueError, match=r"`threshold` must be within the floats"):
        clipax.clip_by_leaf_norm(10**400)
    with pytest.raises(ValueError, match="`window` must be at most 2147483647, got"):
        clipax.thresholds.median(2.0, window=2**63)


NO_SCHEDULE = {
    "None": lambda count: None,
    "text": lambda count: "x",
    "vector": lambda count: jnp.ones(3),
    "complex": lambda count: 1j,
    "flag": lambda count: True,
    "raises": lambda count: count["step"],
    "no argument": lambda: 1.0,
    "rule": lambda count: clipax.norms.clip(1.0),
}


@pytest.mark.parametrize("value", NO_SCHEDULE.values(), ids=NO_SCHEDULE)
def test_functions_that_are_no_schedule(value):
    text = "must be a number or a schedule, a function from the step count to a number; "
    with pytest.raises(TypeError, match=f"`threshold` {text}"):
        clipax.clip_by_leaf_norm(value)
    with pytest.raises(TypeError, match=f"`threshold` {text}"):
        clipax.clip_by_value(value)
    with pytest.raises(TypeError, match=f"`learning_rate` {text}"):
        clipax.clip_sgd(value, 1.0)


def test_schedules_with_branches_of_python_pass():
    clipax.clip_by_value(lambda count: 1.0 if count < 1 else 2.0)


FACTORIES = [name for name, value in vars(thresholds).items() if inspect.isfunction(value)]


@pytest.mark.parametrize("name", FACTORIES)
def test_factories_that_were_not_called(name):
    factory = getattr(thresholds, name)
    with pytest.raises(TypeError, match=rf"`thresholds\.{name}` makes one when it is called"):
        clipax.clip_by_global_norm(factory)


@pytest.mark.parametrize(
    "rule",
    [norms.clip(1.0), norms.normalize(0.1), norms.chain(norms.clip(1.0)), thresholds.zscore()],
)
@pytest.mark.parametrize("params", [{"w": jnp.ones(2)}, [jnp.ones(2)], jnp.ones(2), (jnp.ones(2),)])
def test_rules_on_norms_in_a_chain(rule, params):
    optimizer = optax.chain(rule, optax.adam(0.1))
    with pytest.raises(TypeError, match=r"`clipax\.scale_by_norm\(rule\)` of a rule"):
        optimizer.init(params)


@pytest.mark.parametrize("make", [clipax.thresholds.percentile, clipax.clip_by_percentile])
def test_a_share_is_no_percentage(make):
    for share in (0.1, 0.5, 0.99, 100):
        with pytest.raises(ValueError, match=r"`percentile` must be in \[1, 100\), in percent"):
            make(share)


def test_what_else_is_no_argument():
    with pytest.raises(TypeError, match="`axis_name` must be the name of a mesh axis"):
        clipax.clip_by_global_norm(1.0, axis_name=5)
    with pytest.raises(TypeError, match="`axis_name` must be the name of a mesh axis"):
        clipax.skip_nonfinite(optax.sgd(0.1), axis_name=(1, 2))
    with pytest.raises(TypeError, match=r"`rule` must be made by `clipax.norms`.*`clipax.delay_up"):
        norms.delay(optax.sgd(0.1), 2)
    with pytest.raises(TypeError, match="`initial` must be a number"):
        norms.delay(norms.clip(1.0), 1, initial="x")
    with pytest.raises(TypeError, match="`inner` must be an optax gradient transformation"):
        clipax.with_error_feedback(thresholds.median(2.0))
    with pytest.raises(TypeError, match="`learning_rate` must have a sign"):
        clipax.clip_sgd(np.uint8(1), 1.0)


def test_a_threshold_of_zero_says_what_is_off():
    with pytest.raises(ValueError, match=r"got 0\. Infinity clips nothing\."):
        clipax.clip_by_global_norm(0)


UNCALLED = {
    "before": lambda: clipax.scale_by_norm(norms.clip),
    "rules": lambda: norms.chain(norms.clip),
    "threshold": lambda: clipax.clipped_grad(lambda w, x: w * x, thresholds.zscore),
    "percentile": lambda: clipax.clip_by_percentile(thresholds.percentile),
}


@pytest.mark.parametrize("name", UNCALLED)
def test_more_factories_that_were_not_called(name):
    with pytest.raises(TypeError, match=rf"`{name}` must be .* makes one when it is called"):
        UNCALLED[name]()


def test_a_threshold_in_place_of_a_rule():
    with pytest.raises(TypeError, match=r"`norms\.clip\(threshold\)` makes a rule of a threshold"):
        clipax.scale_by_norm(thresholds.zscore())


@pytest.mark.parametrize("name", ["exclude", "stacked"])
def test_patterns_are_refused_under_their_own_name(name):
    with pytest.raises(TypeError, match=f"`{name}` must be glob patterns"):
        clipax.clip_by_param_norm(0.1, **{name: 3})


@pytest.mark.parametrize("value", [1e39, 1e300])
def test_numbers_beyond_float32_do_not_warn(value):
    params = {"w": jnp.ones((3, 3))}
    for tx in (
        clipax.clip_by_median(value),
        clipax.clip_by_ema(value),
        clipax.clip_by_zscore(value),
        clipax.clip_by_zscore(eps=value),
        clipax.scale_by_norm(norms.clip(thresholds.rms_of_norms(value))),
        clipax.scale_by_norm(norms.clip(thresholds.tail_power(value))),
        clipax.skip_spikes(optax.sgd(0.1), thresholds.median(value)),
        clipax.spam(0.1, theta=value),
        clipax.clip_by_global_norm(lambda count: np.array(value)),
    ):
        updates, _ = tx.update(params, tx.init(params), params)
        assert np.isfinite(updates["w"]).all()
    clipax.clipped_grad(lambda params, x: jnp.sum(params["w"]) * x, value)(params, jnp.ones(4))
