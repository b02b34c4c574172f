"""The division of the noise between gradient and count."""

from __future__ import annotations

import pytest

from clipax.per_example import noise_split


def test_the_split_of_the_noise():
    z = noise_split(1.2, 3.0)
    assert z**-2 + 6.0**-2 == pytest.approx(1.2**-2)
    assert noise_split(1.0, 1e6) == pytest.approx(1.0)
    for count_noise in (0.5, 0.1):
        with pytest.raises(ValueError, match=r"`count_noise` must be more than half .* 1.0, got"):
            noise_split(1.0, count_noise)
