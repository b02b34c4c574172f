"""The methods that can be compared, their construction, and the errors for other names."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import optax
import pytest

import clipax
from clipax.catalogue import ENTRIES, Entry
from clipax.lab._compare import methods
from clipax.lab._errors import InputError


def step(method, rate, gradient):
    params = {"w": jnp.zeros(2)}
    optimizer = method.build(rate)
    updates, _ = optimizer.update({"w": jnp.asarray(gradient)}, optimizer.init(params), params)
    return np.asarray(updates["w"])


def test_every_optimizer_of_the_catalogue_can_be_compared():
    optimizers = [entry for entry in ENTRIES.values() if entry.kind == "optimizer"]
    expected = {entry.name for entry in optimizers}
    expected |= {variant for entry in optimizers for variant in entry.variants}
    expected = expected - set(methods.list_untunable()) | {"sgd", "adam"}
    assert set(methods.list_available()) == expected
    assert {method.name for method in methods.resolve(["all"], 1.0)} == expected
    assert set(methods.DEFAULT_METHODS) <= expected


def test_rates_and_thresholds_reach_the_factory():
    clipped, plain = methods.resolve(["clip_sgd", "sgd"], threshold=2.5)
    np.testing.assert_allclose(step(clipped, 0.1, [3.0, 4.0]), [-0.15, -0.2], rtol=1e-6)
    np.testing.assert_allclose(step(plain, 0.1, [3.0, 4.0]), [-0.3, -0.4], rtol=1e-6)


def test_variants_are_built_with_their_own_arguments():
    plain, delayed = methods.resolve(["clip_adagrad_norm", "delayed_clip_adagrad_norm"], 10.0)
    # Without delay the first divisor is sqrt(1 + 25), with delay it is the initial 1.
    np.testing.assert_allclose(
        step(plain, 1.0, [3.0, 4.0]), [-3 / 26**0.5, -4 / 26**0.5], rtol=1e-6
    )
    np.testing.assert_allclose(step(delayed, 1.0, [3.0, 4.0]), [-3.0, -4.0], rtol=1e-6)
    assert plain.learning_rates == delayed.learning_rates


def test_given_rates_replace_every_grid_and_names_count_once():
    chosen = methods.resolve(["sgd", "adam", "sgd"], 1.0, (1.0, 0.1, 1.0))
    assert [method.name for method in chosen] == ["sgd", "adam"]
    assert {method.learning_rates for method in chosen} == {(0.1, 1.0)}


def test_grids_ascend_and_have_room_on_both_sides():
    for method in methods.resolve(["all"], 1.0):
        rates = method.learning_rates
        assert list(rates) == sorted(rates)
        assert len(rates) >= 5


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("clip_sdg", "unknown method 'clip_sdg'; nearest: clip_sgd"),
        ("adan", "nearest: adam"),
        ("zzzz", "unknown method 'zzzz'; `clipax methods` lists them"),
        ("norms.clip", "method norms.clip is a norm, no optimizer"),
    ],
)
def test_unknown_names_are_refused_and_the_nearest_offered(name, message):
    with pytest.raises(InputError, match=message):
        methods.resolve(["sgd", name], 1.0)


def test_no_name_at_all_is_refused():
    with pytest.raises(InputError, match="no method given"):
        methods.resolve([], 1.0)


def test_an_optimizer_without_a_learning_rate_is_left_out():
    assert methods.list_untunable() == ("clipped_sstm",)
    assert "clipped_sstm" not in methods.list_available()
    assert "clipped_sstm" not in [method.name for method in methods.resolve(["all"], 1.0)]
    with pytest.raises(InputError, match="method clipped_sstm takes no learning rate"):
        methods.resolve(["clipped_sstm"], 1.0)


def test_a_new_optimizer_gets_a_wide_grid(monkeypatch):
    entry = Entry("new", optax.sgd, "optimizer", "", (), {"learning_rate": 0.1})
    monkeypatch.setattr(clipax.catalogue, "ENTRIES", {**ENTRIES, "new": entry})
    (method,) = methods.resolve(["new"], 1.0)
    assert method.learning_rates[-1] / method.learning_rates[0] >= 1e5
