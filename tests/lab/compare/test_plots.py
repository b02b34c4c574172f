"""The picture of a comparison."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from matplotlib import image

from clipax.lab._compare.methods import DEFAULT_METHODS
from clipax.lab._compare.plots import choose_colours, draw
from tests.lab.compare.made_results import INF, NORMS, RESULTS, make


@pytest.mark.parametrize(
    "results",
    [
        RESULTS,
        pytest.param(RESULTS[:1], marks=pytest.mark.thorough),
        pytest.param(RESULTS[2:], marks=pytest.mark.thorough),
        pytest.param(
            [make(f"method_{i}", [0.1 + i]) for i in range(25)], marks=pytest.mark.thorough
        ),
    ],
    ids=["mixed", "one", "all diverged", "many"],
)
def test_pictures_are_drawn_whatever_diverged(tmp_path, results):
    draw(results, NORMS, "title", tmp_path / "curves.png")
    picture = image.imread(tmp_path / "curves.png")
    assert picture.shape[0] > 600
    assert picture.shape[1] > 1000
    assert np.unique(picture.reshape(-1, picture.shape[-1]), axis=0).shape[0] > 20


def test_diverged_runs_do_not_set_the_scale():
    figure = draw(RESULTS, NORMS, "what was compared")
    curves, ends, norms, rates = figure.axes
    low, high = curves.get_ylim()
    assert 0.05 < low < 0.1
    assert 2.3 < high < 3.0
    assert rates.get_ylim()[1] <= high
    assert {axes.get_yscale() for axes in (curves, rates, norms)} == {"log"}
    assert figure.get_suptitle() == "what was compared"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        result.method for result in RESULTS
    ]
    assert [label.get_text() for label in ends.get_yticklabels()] == [
        result.method.replace("+", "\n+") for result in RESULTS
    ]
    assert {text.get_text() for text in ends.texts} == {"25 % diverged", "100 % diverged"}
    lines = {line.get_label(): line for line in curves.lines}
    np.testing.assert_allclose(lines["clip_by_global_norm+sgd"].get_ydata(), [2.3, 1.0, 0.25])
    assert lines["sgd"].get_ydata()[-1] > 10 * high


def test_norms_are_drawn_with_the_constant_thresholds():
    norms = draw(RESULTS, NORMS, "").axes[2]
    series, threshold = norms.lines
    np.testing.assert_allclose(series.get_ydata(), NORMS.series)
    assert set(threshold.get_ydata()) == {0.5}
    assert threshold.get_color() == choose_colours([RESULTS[0].method])[RESULTS[0].method]


def test_curves_that_lie_on_each_other_are_said_to():
    results = [make("adamw", [0.3]), make("twin", [0.3]), make("other", [0.5])]
    figure = draw(results, NORMS, "")
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "adamw",
        "twin (lies on adamw)",
        "other",
    ]
    styles = [line.get_linestyle() for line in figure.axes[0].lines]
    assert styles == ["-", "--", "-"]


def test_a_method_has_the_same_colour_in_every_picture():
    every = choose_colours(DEFAULT_METHODS)
    assert len(set(every.values())) == len(DEFAULT_METHODS)
    for method in DEFAULT_METHODS:
        assert choose_colours([method, "something"])[method] == every[method]
    assert choose_colours(list(reversed(DEFAULT_METHODS))) == every
    # Another threshold of the same clip has a colour of its own beside it.
    two = choose_colours(["clip_by_zscore+adamw", "clip_by_zscore:z=4+adamw"])
    assert len(set(two.values())) == 2
    many = [f"method_{i}" for i in range(40)]
    assert set(choose_colours(many)) == set(many)


def test_losses_that_are_not_positive_are_drawn_on_a_linear_scale(tmp_path):
    results = [
        replace(
            make("adamw", [0.3, 0.2], diverged=1),
            scores={"loss": ((1.0, 0.0, -2.0), (1.0, 0.5, 0.0), (1.0, 1.0, INF))},
            validation_loss=((-1.0,), (-2.0,), (INF,)),
        )
    ]
    figure = draw(results, NORMS, "", tmp_path / "curves.png")
    assert {axes.get_yscale() for axes in (figure.axes[0], figure.axes[3])} == {"linear"}
    low, high = figure.axes[0].get_ylim()
    assert (low < -2.0, 1.0 < high < 2.0) == (True, True)


def test_runs_that_all_diverged_keep_the_axes_in_order():
    figure = draw(RESULTS[2:], NORMS, "")
    for axes, axis in ((figure.axes[0], "y"), (figure.axes[1], "x"), (figure.axes[3], "y")):
        low, high = getattr(axes, f"get_{axis}lim")()
        assert low < high < 10


def test_results_that_are_all_equal_have_a_scale():
    draw([replace(make("adamw", [1.0]), scores={"loss": ((1.0, 1.0, 1.0),)})], NORMS, "")
