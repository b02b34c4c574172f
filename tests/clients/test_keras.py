"""Keras 3 on JAX: clips in the hook of its optimizers, their state in the optimizer's variables."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["KERAS_BACKEND"] = "jax"  # before Keras is imported

import jax.numpy as jnp
import keras
import numpy as np
import optax
import pytest

import clipax
from clipax import norms, scopes, thresholds
from clipax.integrations.keras import ClipGradients

RNG = np.random.default_rng(0)
X = RNG.normal(size=(64, 3)).astype(np.float32)
Y = 10 * X.sum(axis=1, keepdims=True)


@pytest.fixture(autouse=True)
def fresh_names() -> None:
    keras.utils.clear_session()


def clipped(clip: optax.GradientTransformation, base: Any = keras.optimizers.Adam) -> Any:
    """A registered optimizer that clips."""
    kind = type("Clipped", (ClipGradients, base), {"clip": clip})
    return keras.saving.register_keras_serializable("tests")(kind)


def make_model(optimizer: Any, **kwargs: Any) -> Any:
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Input((3,)), keras.layers.Dense(4), keras.layers.Dense(1)]
    model = keras.Sequential(layers)
    model.compile(optimizer, loss="mse", **kwargs)
    return model


def train(model: Any, epochs: int = 1, **kwargs: Any) -> Any:
    return model.fit(X, Y, batch_size=16, epochs=epochs, shuffle=False, verbose=0, **kwargs)


def weights(model: Any) -> list[np.ndarray]:
    return [np.asarray(one) for one in model.get_weights()]


def assert_same(first: list[Any], second: list[Any], rtol: float = 0.0) -> None:
    for one, other in zip(first, second, strict=True):
        np.testing.assert_allclose(np.asarray(one), np.asarray(other), rtol=rtol, atol=rtol)


@pytest.mark.parametrize(
    ("name", "clip"),
    [
        ("global_clipnorm", clipax.clip_by_global_norm(5.0)),
        ("clipnorm", clipax.clip_by_leaf_norm(5.0)),  # of each variable by itself
        ("clipvalue", clipax.clip_by_value(5.0)),
    ],
)
def test_the_clips_of_keras(name: str, clip: optax.GradientTransformation) -> None:
    sgd = keras.optimizers.SGD
    theirs, ours = make_model(sgd(1e-2, **{name: 5.0})), make_model(clipped(clip, sgd)(1e-2))
    plain = make_model(sgd(1e-2))
    for model in (theirs, ours, plain):
        train(model)
    assert_same(weights(ours), weights(theirs), rtol=1e-5)
    assert not np.allclose(weights(plain)[0], weights(theirs)[0], rtol=1e-2)


METHODS: dict[str, Callable[[], optax.GradientTransformation]] = {
    "number": lambda: clipax.clip_by_global_norm(5.0),
    "schedule": lambda: clipax.clip_by_global_norm(optax.linear_schedule(10.0, 1.0, 10)),
    "zscore of leaves": lambda: clipax.scale_by_norm(norms.clip(thresholds.zscore()), scope="leaf"),
    "histogram": lambda: clipax.clip_by_percentile(10),
    "window": lambda: clipax.clip_by_quantile(0.5, window=5),
    "parameters": lambda: clipax.clip_by_param_norm(0.01, exclude="*/bias"),
    "matrices": lambda: clipax.clip_by_singular_values(1.0),
    "memory like the parameters": lambda: clipax.with_error_feedback(
        clipax.clip_by_global_norm(5.0)
    ),
    "chain": lambda: optax.chain(clipax.monitor_norms(), clipax.clip_by_zscore()),
    "no state": lambda: optax.clip_by_global_norm(5.0),
}


@pytest.mark.parametrize("method", METHODS)
def test_a_saved_model_goes_on_as_if_it_had_not_stopped(method: str, tmp_path: Path) -> None:
    kind = clipped(METHODS[method]())
    model = make_model(kind(1e-2))
    train(model, 2)
    model.save(tmp_path / "model.keras")
    model.save_weights(tmp_path / "model.weights.h5")

    loaded = keras.models.load_model(tmp_path / "model.keras")
    rebuilt = make_model(kind(1e-2))  # its layers have other names, as in a notebook
    rebuilt.optimizer.build(rebuilt.trainable_variables)
    rebuilt.load_weights(tmp_path / "model.weights.h5")
    for other in (loaded, rebuilt):
        assert_same(other.optimizer.variables, model.optimizer.variables)
    for one in (model, loaded, rebuilt):
        train(one)
    for other in (loaded, rebuilt):
        assert_same(weights(other), weights(model))
        assert_same(other.optimizer.variables, model.optimizer.variables)


def test_a_checkpoint_without_a_clip_can_be_loaded(tmp_path: Path) -> None:
    plain = make_model(keras.optimizers.Adam(1e-2))
    train(plain)
    plain.save_weights(tmp_path / "model.weights.h5")
    model = make_model(clipped(clipax.clip_by_global_norm(1e9))(1e-2))
    model.optimizer.build(model.trainable_variables)
    model.load_weights(tmp_path / "model.weights.h5")
    for one in (plain, model):
        train(one)
    assert_same(weights(model), weights(plain))
    assert int(model.optimizer.clip_state.telemetry.steps) == 4


class Log(keras.callbacks.Callback):
    """Add the clip's numbers to the logs of each epoch, and keep the steps of each batch."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[int] = []

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.model.jax_state_sync()
        self.steps.append(int(self.model.optimizer.clip_state.telemetry.steps))

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        found = self.model.optimizer.clip_metrics()
        logs.update({name: float(value) for name, value in found.items()})


def test_metrics_are_read_in_a_callback() -> None:
    model, log = make_model(clipped(clipax.clip_by_leaf_norm(0.1))(1e-2)), Log()
    history = train(model, 2, callbacks=[log]).history
    assert log.steps == list(range(1, 9))
    assert history["clip_fraction"] == [1.0, 1.0]
    assert history["clipped_norm"] == pytest.approx([0.1, 0.1])
    assert min(history["grad_norm"]) > 1.0
    names = clipax.block_names(model.optimizer.clip_state)
    assert names == tuple(
        f"{place}/{variable.path}" for place, variable in enumerate(model.trainable_variables)
    )
    assert f"grad_norm/{names[0]}" in model.optimizer.clip_metrics(top=None)


def test_patterns_fit_the_paths_of_variables() -> None:
    scope = scopes.exclude(("*/bias", "dense_1"))
    clip = clipax.scale_by_norm(norms.clip(1e-3), scope=scope)
    model = make_model(clipped(clip, keras.optimizers.SGD)(1e-2))
    before = weights(model)
    train(model)
    moved = [float(np.linalg.norm(b - a)) for a, b in zip(before, weights(model), strict=True)]
    assert moved[0] < 1e-4  # 4 steps of 1e-2 times 1e-3
    assert min(moved[1:]) > 1e-2


def test_accumulated_gradients_are_clipped_as_one() -> None:
    kind = clipped(clipax.clip_by_global_norm(5.0), keras.optimizers.SGD)
    accumulated = make_model(kind(1e-2, gradient_accumulation_steps=2))
    accumulated.fit(X, Y, batch_size=8, epochs=1, shuffle=False, verbose=0)
    whole = make_model(kind(1e-2))
    train(whole)
    assert_same(weights(accumulated), weights(whole), rtol=1e-5)
    assert int(accumulated.optimizer.clip_state.telemetry.steps) == 4


def test_a_scaled_loss_does_not_scale_the_norms() -> None:
    kind = clipped(clipax.clip_by_global_norm(5.0))
    model = make_model(keras.optimizers.LossScaleOptimizer(kind(1e-2), initial_scale=1024.0))
    plain = make_model(kind(1e-2))
    for one in (model, plain):
        train(one)
    inner = model.optimizer.inner_optimizer
    norm = plain.optimizer.clip_metrics()["grad_norm"]
    np.testing.assert_allclose(inner.clip_metrics()["grad_norm"], norm, rtol=1e-5)
    # A step that is not finite is skipped by Keras, and does not reach the clip.
    model.fit(np.full_like(X, np.nan), Y, batch_size=64, epochs=1, verbose=0)
    assert int(inner.clip_state.telemetry.steps) == 4
    assert np.isfinite(weights(model)[0]).all()


def test_a_gradient_that_is_not_finite_gives_a_zero_gradient() -> None:
    model = make_model(clipped(clipax.clip_by_global_norm(5.0), keras.optimizers.SGD)(1e-2))
    before = weights(model)
    model.fit(np.full_like(X, np.nan), Y, epochs=1, batch_size=32, verbose=0)
    assert_same(weights(model), before)
    assert int(model.optimizer.clip_metrics()["nonfinite_count"]) == 2


def test_a_variable_without_a_gradient() -> None:
    optimizer = clipped(clipax.clip_by_leaf_norm(1.0), keras.optimizers.SGD)(1.0)
    both = [keras.Variable(jnp.zeros(2), name=name) for name in ("first", "second")]
    optimizer.build(both)
    with pytest.warns(UserWarning, match="Gradients do not exist"):
        optimizer.apply([None, jnp.array([3.0, 4.0])])
    assert_same([variable.value for variable in both], [[0.0, 0.0], [-0.6, -0.8]], rtol=1e-6)
    assert clipax.block_names(optimizer.clip_state) == ("0/first", "1/second")


def test_mixed_precision() -> None:
    before = keras.mixed_precision.dtype_policy()
    keras.mixed_precision.set_dtype_policy("mixed_bfloat16")
    try:
        model = make_model(clipped(clipax.clip_by_zscore())(1e-2))
        first, last = train(model, 5).history["loss"][::4]
    finally:
        keras.mixed_precision.set_dtype_policy(before)
    assert last < first


@pytest.mark.parametrize("name", ["clipnorm", "global_clipnorm", "clipvalue"])
def test_two_clips_are_refused(name: str) -> None:
    model = make_model(clipped(clipax.clip_by_global_norm(5.0))(1e-2, **{name: 1.0}))
    with pytest.raises(ValueError, match=f"`{name}` must be left out"):
        train(model)


def test_a_clip_that_is_none() -> None:
    model = make_model(clipped(clipax.clip_by_global_norm)(1e-2))
    with pytest.raises(TypeError, match="`clip` of Clipped must be a gradient transformation"):
        train(model)


def test_another_backend() -> None:
    class Variable:
        path, value = "kernel", np.zeros(2)

    optimizer = clipped(clipax.clip_by_global_norm(1.0))(1e-2)
    with pytest.raises(TypeError, match="KERAS_BACKEND=jax"):
        optimizer.build([Variable()])


def test_bases_in_the_other_order_are_refused() -> None:
    with pytest.raises(TypeError, match="must be the first base of Clipped, in front of"):
        type("Clipped", (keras.optimizers.SGD, ClipGradients), {"clip": optax.clip(1.0)})


def test_there_is_no_state_before_the_optimizer_is_built() -> None:
    optimizer = clipped(clipax.clip_by_zscore())(0.1)
    with pytest.raises(ValueError, match="`clip_state` must be asked for after"):
        optimizer.clip_metrics()
