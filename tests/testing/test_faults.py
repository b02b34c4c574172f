"""The registry of faults."""

from __future__ import annotations

import pytest

from clipax.testing import FAULTS


def test_the_registry_is_frozen_and_knows_its_names():
    assert set(FAULTS) == {
        "nan",
        "infinity",
        "zero",
        "zeros",
        "frozen",
        "constant_norms",
        "1e38",
        "1e-38",
        "float16_overflow",
        "spike",
        "dip",
        "alternating",
        "fall",
        "empty_leaf",
    }
    assert all(fault.name == name for name, fault in FAULTS.items())
    with pytest.raises(TypeError):
        FAULTS["mine"] = FAULTS["nan"]
