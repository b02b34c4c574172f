"""What clips would have done with a run's norms."""

from __future__ import annotations

import jax
import numpy as np
import optax
import pytest

import clipax

NORMS = np.exp(np.random.default_rng(0).normal(size=120))
NORMS[[40, 41, 42, 90]] = 1e3, np.nan, 2e3, 0.0


def test_a_constant_threshold_is_counted_by_hand() -> None:
    (one,) = clipax.advise(NORMS).replay({"constant": clipax.clip_by_global_norm(2.0)})
    finite = NORMS[np.isfinite(NORMS)]
    assert one.name == "constant"
    assert one.share == np.mean(finite > 2.0)
    assert one.smallest_factor == pytest.approx(2.0 / 2e3)
    assert one.stop == (41, 41, 1)  # the step that is not finite; a norm of zero is a step
    np.testing.assert_array_equal(one.thresholds, 2.0)


def test_a_guard_stops_where_it_skips() -> None:
    guard = clipax.skip_spikes(optax.identity(), 10.0)
    (one,) = clipax.advise(NORMS).replay({"guard": guard})
    finite = NORMS[np.isfinite(NORMS)]
    assert one.share == np.mean(finite > 10.0)
    assert one.smallest_factor == 1
    assert (one.stop.first, one.stop.length) == (40, 3)


def test_the_candidates_are_the_clips_themselves_step_by_step() -> None:
    advice = clipax.advise(NORMS)
    for one in advice.replay():
        name, _, number = one.name.partition("(")
        make = getattr(clipax, name)
        given = [float(number.rstrip(")"))] if number else []
        clip = make(optax.identity()) if name == "skip_spikes" else make(*given)
        step, state, cut = jax.jit(clip.update), clip.init(np.float32(1)), 0
        for norm in NORMS.astype(np.float32):
            update, state = step(norm, state, np.float32(1))
            cut += bool(np.isfinite(norm) and update < norm * (1 - 1e-6))
        assert one.share == cut / np.isfinite(NORMS).sum(), name
    assert f"clip_by_global_norm({advice.threshold:g})" in {one.name for one in advice.replay()}


def test_norms_beyond_float32() -> None:
    norms = np.array([1e-50, 1e35, 1e300, 2.0])
    (one,) = clipax.advise(norms).replay({"c": clipax.clip_by_global_norm(1.0)})
    assert one.share == 3 / 4
    assert one.smallest_factor == pytest.approx(1e-35, rel=1e-5)  # beyond, factors are subnormal


def test_what_has_no_order_cannot_be_replayed() -> None:
    monitor = clipax.monitor_norms()
    _, state = monitor.update(np.float32(1), monitor.init(np.float32(1)))
    with pytest.raises(ValueError, match="`replay` takes norms in the order"):
        clipax.advise(state).replay()
    rows = [{"a/grad_norm": 1.0, "b/grad_norm": 2.0}]
    advice = clipax.advise(rows)
    with pytest.raises(ValueError, match="`replay` takes"):
        advice.replay()
    (one,) = advice.groups["a/grad_norm"].replay({"c": clipax.clip_by_global_norm(0.5)})
    assert one.share == 1


def test_the_picture_shows_norms_spikes_and_thresholds(tmp_path) -> None:
    figure = clipax.advise(NORMS).plot(tmp_path / "norms.png")
    assert (tmp_path / "norms.png").stat().st_size > 10_000
    (axes,) = figure.axes
    labels = axes.get_legend_handles_labels()[1]
    assert labels[:3] == ["118 norms", "2 above 10 times the median", "1 not finite"]
    assert len(labels) == 3 + 6
    assert axes.get_yscale() == "log"


def test_a_column_is_chosen_by_its_name() -> None:
    log = {"step": [1, 2, 3], "size": [1.0, 2.0, 3.0], "grad_norm": [5.0, 5.0, 5.0]}
    chosen = clipax.advise(log, column="size")
    np.testing.assert_array_equal(chosen.series.norms, [1, 2, 3])
    np.testing.assert_array_equal(chosen.series.steps, [1, 2, 3])
    with pytest.raises(ValueError, match="`column` must be one of `step`, `size`, `grad_norm`"):
        clipax.advise(log, column="sizes")
    with pytest.raises(ValueError, match="`column` must be None"):
        clipax.advise([1.0, 2.0], column="size")
