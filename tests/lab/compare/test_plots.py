"""The picture of a comparison."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib import image
from matplotlib.figure import Figure

from clipax.lab import plot_curves
from tests.lab.compare.made_results import RESULTS, make


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
    plot_curves(results, "title", tmp_path / "curves.png")
    picture = image.imread(tmp_path / "curves.png")
    assert picture.shape[0] > 600
    assert picture.shape[1] > 1000
    assert np.unique(picture.reshape(-1, picture.shape[-1]), axis=0).shape[0] > 20


def test_diverged_runs_do_not_set_the_scale(tmp_path, monkeypatch):
    drawn = []

    class Kept(Figure):
        def savefig(self, *args, **kwargs):
            drawn.append(self)

    monkeypatch.setattr("matplotlib.figure.Figure", Kept)
    plot_curves(RESULTS, "what was compared", tmp_path / "curves.png")
    (figure,) = drawn
    curves, ends, rates = figure.axes
    for axes in (curves, rates):
        low, high = axes.get_ylim()
        assert low == pytest.approx(0.8 * 0.1)
        assert high == pytest.approx(2 * 2.3)
        assert axes.get_yscale() == "log"
    assert figure.get_suptitle() == "what was compared"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        result.method for result in RESULTS
    ]
    assert [label.get_text() for label in ends.get_yticklabels()] == [
        result.method for result in RESULTS
    ]
    assert {text.get_text() for text in ends.texts} == {"25 % diverged", "100 % diverged"}
    lines = {line.get_label(): line for line in curves.lines}
    np.testing.assert_allclose(lines["clip_sgd"].get_ydata(), [2.3, 1.0, 0.25])
    assert lines["sgd"].get_ydata()[-1] > 10 * curves.get_ylim()[1]
