"""Arguments that cannot be measured are refused."""

from __future__ import annotations

import numpy as np
import pytest

from clipax.diagnostics import (
    SmoothnessRecorder,
    fit_smoothness,
    local_smoothness,
    tail_shares,
)


def fourth(x):
    return 4 * x**3


WRONG = [
    (lambda: local_smoothness(fourth, 1.0, 2.0, points=0), "`points` must be at least 1, got 0"),
    (lambda: SmoothnessRecorder(fourth, every=0), "`every` must be at least 1, got 0"),
    (lambda: fit_smoothness([1, 2, 3], [1, 2]), "`smoothness` must be a vector as long as"),
    (lambda: fit_smoothness([-1, 2, 3], [1, 2, 3]), "`grad_norms` must be non-negative, got -1"),
    (lambda: fit_smoothness([1, 2, 3], [1, 2, -3]), "`smoothness` must be non-negative, got -3"),
    (lambda: fit_smoothness([1, 2, 3], [1, 2, 0]), "at least 3 usable entries, got 2"),
    (lambda: fit_smoothness([1] * 3, [1] * 3, confidence=1), r"`confidence` must be in \(0, 1\)"),
    (lambda: fit_smoothness([1] * 3, [1] * 3, resamples=1), "`resamples` must be at least 2"),
    (lambda: fit_smoothness([1] * 3, [1] * 3, block=0), "`block` must be at least 1, got 0"),
    (lambda: tail_shares([1, 2, np.nan, 3]), "`norms` must have at least 4 finite entries, got 3"),
    (lambda: tail_shares(np.ones((4, 4))), r"`norms` must be a vector, got an array of shape"),
    (lambda: SmoothnessRecorder(fourth).fit(), "at least 3 usable entries, got 0"),
]


@pytest.mark.parametrize(("call", "message"), WRONG, ids=[message for _, message in WRONG])
def test_what_cannot_be_measured_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
