"""The methods that can be compared, their construction, and the errors for other names."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import optax
import pytest

import clipax
from clipax.catalogue import ENTRIES
from clipax.lab._compare import grids, methods, words
from clipax.lab._compare.methods import resolve
from clipax.lab._errors import InputError
from tests.lab.compare.made_results import NORMS


def step(method, gradient, rate=0.1, threshold=None):
    params = {"w": jnp.zeros(2)}
    optimizer = method.build(rate, threshold)
    updates, _ = optimizer.update({"w": jnp.asarray(gradient)}, optimizer.init(params), params)
    return np.asarray(updates["w"])


def test_every_optimizer_of_the_catalogue_can_be_compared():
    optimizers = [entry for entry in ENTRIES.values() if entry.kind == "optimizer"]
    expected = {entry.name for entry in optimizers}
    expected |= {variant for entry in optimizers for variant in entry.variants}
    expected = expected - set(methods.list_untunable()) | set(grids.BASELINES)
    assert set(methods.list_optimizers()) == expected
    assert {method.name for method in resolve(["all"])} == expected


@pytest.mark.parametrize(
    "name", [name for name, entry in ENTRIES.items() if entry.kind == "transformation"]
)
def test_every_transformation_can_stand_in_front_of_an_optimizer(name):
    wrapped = "+clip_by_global_norm" if name == "with_error_feedback" else ""
    (method,) = resolve([f"{name}{wrapped}+sgd"])
    threshold = None if method.searched is None else method.searched.values[0]
    assert step(method, [3.0, 4.0], threshold=threshold).shape == (2,)
    assert method.plain == (None if name == "monitor_norms" else "sgd")
    # What is written is what is built.
    written = eval(method.write(0.1, threshold), {"clipax": clipax, "optax": optax})
    assert isinstance(written, optax.GradientTransformation)


@pytest.mark.parametrize("base", list(grids.BASELINES))
def test_every_optimizer_of_optax_can_be_behind_a_clip(base):
    (method,) = resolve([f"clip_by_zscore+{base}"])
    assert method.searched.argument == "z"
    assert method.rates == resolve([base])[0].rates
    assert np.isfinite(step(method, [3.0, 4.0], threshold=2.5)).all()


def test_rates_thresholds_and_arguments_reach_the_factories():
    clipped, fixed, plain = resolve(
        ["clip_by_global_norm+sgd", "clip_by_global_norm:max_norm=2.5+sgd:momentum=0.9", "sgd"]
    )
    np.testing.assert_allclose(step(clipped, [3.0, 4.0], 0.1, 2.5), [-0.15, -0.2], rtol=1e-6)
    np.testing.assert_allclose(step(fixed, [3.0, 4.0]), [-0.15, -0.2], rtol=1e-6)
    np.testing.assert_allclose(step(plain, [3.0, 4.0]), [-0.3, -0.4], rtol=1e-6)
    assert (fixed.searched, fixed.plain) == (None, "sgd:momentum=0.9")
    assert clipped.write(0.1, 2.5) == (
        "optax.chain(clipax.clip_by_global_norm(max_norm=2.5), optax.sgd(learning_rate=0.1))"
    )
    assert fixed.write(0.1) == (
        "optax.chain(clipax.clip_by_global_norm(max_norm=2.5), "
        "optax.sgd(momentum=0.9, learning_rate=0.1))"
    )


def test_of_two_parts_with_a_threshold_the_first_ones_is_searched():
    (method,) = resolve(["skip_spikes+clip_by_global_norm+sgd"])
    assert method.searched == grids.find_searched("skip_spikes")
    assert method.write(0.1, 5.0) == (
        "clipax.skip_spikes(optax.chain(clipax.clip_by_global_norm(max_norm=1.0), "
        "optax.sgd(learning_rate=0.1)), threshold=clipax.thresholds.median(5, window=50))"
    )
    assert resolve(["monitor_norms+sgd"])[0].plain is None


def test_a_threshold_of_the_library_is_an_argument():
    (method,) = resolve(["clip_by_global_norm:max_norm=quantile(0.9, window=20)+adam"])
    assert "max_norm=clipax.thresholds.quantile(0.9, window=20)" in method.write(0.1)
    optimizer = method.build(0.1)
    state = optimizer.init(jnp.zeros(2))
    assert clipax.metrics(state)["threshold"] > 1e30


def test_guards_hold_all_that_follows_and_error_feedback_the_next_part():
    guarded, fed = resolve(
        ["skip_nonfinite+clip_by_value:threshold=1+sgd", "with_error_feedback+clip_by_value+sgd"]
    )
    assert guarded.write(0.1) == (
        "clipax.skip_nonfinite(optax.chain(clipax.clip_by_value(threshold=1), "
        "optax.sgd(learning_rate=0.1)))"
    )
    np.testing.assert_array_equal(step(guarded, [np.nan, 4.0]), [0.0, 0.0])
    assert fed.write(0.1, 2.0) == (
        "optax.chain(clipax.with_error_feedback(clipax.clip_by_value(threshold=2)), "
        "optax.sgd(learning_rate=0.1))"
    )


def test_usual_names_are_understood_and_methods_count_once():
    names = ["zclip+adamw", "clip_by_zscore+adamw", "AutoClip:percentile=20+adamw"]
    assert [method.name for method in resolve(names)] == [
        "clip_by_zscore+adamw",
        "clip_by_percentile:percentile=20+adamw",
    ]
    # A name is found again under itself.
    for name in ("clip_by_percentile:percentile=20+adamw:b2=0.95", *methods.DEFAULT_METHODS):
        assert resolve([name])[0].name == name


def test_variants_are_built_with_their_own_arguments():
    plain, delayed = resolve(["clip_adagrad_norm", "delayed_clip_adagrad_norm"])
    # Without delay the first divisor is sqrt(1 + 25), with delay it is the initial 1.
    expected = [-3 / 26**0.5, -4 / 26**0.5]
    np.testing.assert_allclose(step(plain, [3.0, 4.0], 1.0, 10.0), expected, rtol=1e-6)
    np.testing.assert_allclose(step(delayed, [3.0, 4.0], 1.0, 10.0), [-3.0, -4.0], rtol=1e-6)
    assert plain.rates == delayed.rates


def test_given_rates_replace_every_grid():
    for method in resolve(["sgd", "adam"], (1.0, 0.1, 1.0)):
        assert (method.rates, method.refine) == ((0.1, 1.0), False)


def test_rates_ascend_by_equal_factors():
    for method in resolve(["all"]):
        ratios = np.diff(np.log(method.rates))
        assert len(method.rates) == 4
        np.testing.assert_allclose(ratios, ratios.mean(), rtol=0.07)


@pytest.mark.parametrize("name", [name for name in ENTRIES if grids.find_searched(name)])
def test_what_is_searched_is_an_argument_and_has_as_many_values_as_the_rounds_want(name):
    searched = grids.find_searched(name)
    assert searched.argument not in ENTRIES[name].static_args
    values = searched.resolve(NORMS, (3, 5))
    assert len(dict.fromkeys(values)) == len(values) == 5
    # The default of the library is what is tried first.
    assert ENTRIES[name].defaults.get(searched.argument) in (None, values[0], 1.0)


def test_constant_thresholds_are_quantiles_of_the_norms():
    of_norm = grids.find_searched("clip_by_global_norm").resolve(NORMS, (3, 5))
    assert of_norm == (1.9, 1.5, 2.0, 1.1, 1.8)
    of_leaf = grids.find_searched("clip_by_leaf_norm").resolve(NORMS, (3, 5))
    assert of_leaf[0] == pytest.approx(1.9 / 2**0.5, rel=0.05)
    of_entry = grids.find_searched("clip_by_value").resolve(NORMS, (3, 5))
    assert of_entry[0] == pytest.approx(1.9 / 8**0.5, rel=0.05)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("clip_sdg", "unknown method 'clip_sdg'; nearest: clip_sgd"),
        ("adan", "nearest: adam"),
        ("zzzz", "unknown method 'zzzz'; `clipax methods` lists them"),
        ("norms.clip", "method norms.clip is a norm, which stands in no chain"),
        ("clip_by_zscore", "clip_by_zscore is no optimizer; put one behind it"),
        ("adam+sgd", "adam is an optimizer, which must be the last part"),
        ("clipped_sstm", "clipped_sstm takes no learning rate"),
        ("clip_by_zscore:y=3+sgd", "clip_by_zscore takes no argument 'y'; it takes z, decay"),
        ("sgd:learning_rate=3", "sgd takes no argument 'learning_rate'"),
        ("clip_by_zscore:z+sgd", "'z' must be argument=value"),
        ("clip_by_zscore:z=1:z=2+sgd", "gives z twice"),
        ("clip_by_zscore:z=-1+sgd", "`z` must be"),
        ("clip_by_global_norm:max_norm=quantil(0.9)+sgd", r"no threshold .*there are anytime"),
        ("clip_by_global_norm:max_norm=quantile(2)+sgd", "must be"),
        ("+sgd", "a part without a name"),
        ("adamw:b1=hello", "method adamw:b1=hello: "),
    ],
)
def test_what_cannot_be_made_is_refused_with_the_reason(name, message):
    with pytest.raises(InputError, match=message):
        resolve(["sgd", name])


def test_all_stands_beside_other_names_and_case_does_not_matter():
    names = [method.name for method in resolve(["zclip+ADAMW", "all"])]
    assert names == ["clip_by_zscore+adamw", *methods.list_optimizers()]


def test_no_name_at_all_is_refused():
    with pytest.raises(InputError, match="no method given"):
        resolve([])


def test_lists_are_split_outside_of_brackets():
    text = "sgd, clip_by_global_norm:max_norm=quantile(0.9,window=20)+adam:b2=0.9 ,lion,"
    assert words.split_methods(text) == [
        "sgd",
        "clip_by_global_norm:max_norm=quantile(0.9,window=20)+adam:b2=0.9",
        "lion",
    ]
    (clip, adam) = words.parse_method("clip_by_value:threshold=1e+3+adam")
    assert (clip.arguments["threshold"][0], adam.name) == (1000.0, "adam")
