"""Features of any size are standardised alike, and what cannot be is told."""

from __future__ import annotations

import numpy as np
import pytest

from clipax.lab._compare.tasks.data import load_data
from clipax.lab._compare.tasks.standardise import standardise
from clipax.lab._errors import InputError

Z = np.random.default_rng(0).normal(size=(60, 2))
TRAIN = np.arange(0, 60, 2)
EXPECTED = (Z - Z[TRAIN].mean(0)) / Z[TRAIN].std(0)


@pytest.mark.parametrize("scale", [5e-322, 1e-310, 1e-300, 1e-160, 1.0, 1e160, 1e300, 4e307])
@pytest.mark.parametrize("other", [1.0, 1e-300, 1e300])
def test_features_of_any_size(scale, other):
    found, remarks = standardise("d", Z * np.array([scale, other]), TRAIN)
    assert (found.dtype, remarks) == (np.float32, ())
    # A subnormal number has few digits of its own.
    atol = 1e-6 if scale > 1e-308 else 0.05
    np.testing.assert_allclose(found, EXPECTED, atol=atol)


@pytest.mark.parametrize("sizes", [(1e300, 1e-300), (1.7e308, 5e-324), (1.0, 1e-300)])
def test_a_feature_of_great_and_small_numbers(sizes):
    x = np.where(np.arange(60) % 4 < 2, *sizes)[:, None] * np.array([[1.0, -1.0]])
    found, _ = standardise("d", x, TRAIN)
    np.testing.assert_allclose(found[:, 0], np.where(np.arange(60) % 4 < 2, 1, -1), rtol=1e-6)
    np.testing.assert_allclose(found[:, 1], -found[:, 0], rtol=1e-6)


def test_a_spread_over_the_whole_range():
    x = np.where(np.arange(60) % 4 < 2, 1.7e308, -1.7e308)[:, None]
    found, _ = standardise("d", x, TRAIN)
    np.testing.assert_allclose(np.abs(found), 1, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "g", "i1", "u1", "i8", "u8", "?"])
def test_all_types_hold_the_same_features(dtype):
    steps = (np.arange(60) * 7 % 11)[:, None] % (2 if dtype == "?" else 11)
    expected = (steps - steps[TRAIN].mean(0)) / steps[TRAIN].std(0)
    found, _ = standardise("d", steps.astype(dtype), TRAIN)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("dtype", "base"),
    [("i8", 2**62), ("i8", -(2**63)), ("u8", 2**64 - 100), ("f8", 2**53), ("f8", -(2.0**1000))],
)
def test_a_spread_that_is_small_beside_the_numbers(dtype, base):
    steps = (np.arange(60) * 7 % 11)[:, None]
    unit = 1 if abs(base) < 2**65 else int(np.spacing(2.0**1000))
    if dtype == "f8":
        x = np.array([[float(int(base) + unit * int(step))] for (step,) in steps])
    else:
        x = np.array([[base + int(step)] for (step,) in steps], dtype)
    # What the type holds of them.
    held = np.array([[(int(value) - int(x.min())) // unit] for (value,) in x])
    expected = (held - held[TRAIN].mean(0)) / held[TRAIN].std(0)
    np.testing.assert_allclose(standardise("d", x, TRAIN)[0], expected, rtol=1e-5, atol=1e-6)


def test_the_ends_of_int64_do_not_wrap_around():
    x = np.where(np.arange(60) % 4 < 2, -(2**63), 2**63 - 1)[:, None]
    found, _ = standardise("d", x, TRAIN)
    np.testing.assert_allclose(found[:, 0], np.where(np.arange(60) % 4 < 2, -1, 1), rtol=1e-6)


def test_features_that_are_constant_in_training_are_told():
    x = np.tile(Z, (1, 3))
    x[:, 1], x[:, 4] = 1e300, 0.0
    x[TRAIN, 5] = -7.0
    found, remarks = standardise("d", x, TRAIN)
    assert remarks == ("3 of 6 features are constant in training, only centred: 1, 4, 5",)
    np.testing.assert_array_equal(found[:, [1, 4]], 0)
    np.testing.assert_allclose(found[1::2, 5], Z[1::2, 1] + 7, rtol=1e-6)


def test_images_name_features_by_their_places():
    x = np.random.default_rng(0).normal(size=(60, 3, 4))
    x[:, :, 0] = 2
    x[:, 1, 1] = 2
    _, (remark,) = standardise("d", x, TRAIN)
    assert remark == ("4 of 12 features are constant in training, only centred: 0,0, 1,0, 1,1, ...")


@pytest.mark.parametrize("outlier", [1e40, 1e200, -1e308])
def test_an_entry_too_far_from_training_is_named(outlier):
    x = Z.copy()
    x[7, 1] = outlier
    with pytest.raises(InputError, match=r"first in row 7 of feature 1: it is -?1e\+\d+, far from"):
        standardise("d", x, TRAIN)


def test_load_data_gives_the_remarks_of_a_file_alone(tmp_path):
    x = np.hstack([Z * np.array([1.0, 1e200]), np.ones((60, 1))])
    np.savez(tmp_path / "d.npz", x=x, y=np.arange(60) % 2)
    data = load_data(str(tmp_path / "d.npz"))
    assert data.remarks == ("1 of 3 features are constant in training, only centred: 2",)
    np.testing.assert_allclose(data.train.x.std(0), [1, 1, 0], rtol=1e-5)
    assert load_data("digits").remarks == ()
