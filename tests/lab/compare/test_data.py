"""Data sets: splits, standardisation, and files that are refused."""

from __future__ import annotations

import zipfile

import numpy as np
import pytest

from clipax.lab._compare.data import BUILT_IN, load_data
from clipax.lab._errors import InputError

X = np.random.default_rng(0).normal(3.0, 5.0, size=(60, 4))
Y = np.arange(60) % 3


@pytest.fixture
def save(tmp_path):
    """Saves arrays as an .npz file and gives its path."""

    def saved(**arrays):
        path = tmp_path / "mine.npz"
        np.savez(path, **arrays)
        return str(path)

    return saved


@pytest.mark.parametrize("name", BUILT_IN)
def test_built_in_data_is_split_by_class_and_standardised(name):
    data = load_data(name)
    parts = (data.train, data.validation, data.test)
    total = sum(map(len, parts))
    assert data.classes == {"digits": 10, "breast-cancer": 2, "wine": 3}[name]
    shares = [np.bincount(part.y, minlength=data.classes) for part in parts]
    for part, share in zip(shares, (0.6, 0.2, 0.2), strict=True):
        assert np.abs(part - share * sum(shares)).max() <= 1
        assert abs(part.sum() - share * total) < 0.02 * total
    x = data.train.x.reshape(len(data.train), -1).astype(np.float64)
    varies = x.std(axis=0) > 0
    np.testing.assert_allclose(x.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(x.std(axis=0)[varies], 1, rtol=1e-4)


def rows(data):
    """Return the examples of each part, where the first feature numbers them."""
    parts = [part.x[:, 0] for part in (data.train, data.validation, data.test)]
    # Standardising keeps the order.
    everything = np.sort(np.concatenate(parts))
    return [np.searchsorted(everything, part) for part in parts]


def test_the_parts_are_disjoint_and_the_split_never_changes(save):
    numbered = X.copy()
    numbered[:, 0] = np.arange(60)
    parts = rows(load_data(save(x=numbered, y=Y)))
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(60))
    for first, again in zip(parts, rows(load_data(save(x=numbered, y=Y))), strict=True):
        np.testing.assert_array_equal(first, again)


def test_statistics_come_from_the_training_part_alone(save):
    numbered = X.copy()
    numbered[:, 0] = np.arange(60)
    first = load_data(save(x=numbered, y=Y))
    train, _, test = rows(first)
    numbered[test, 1] += 1000.0
    second = load_data(save(x=numbered, y=Y))
    np.testing.assert_array_equal(first.train.x, second.train.x)
    expected = 1000.0 / X[train, 1].std()
    np.testing.assert_allclose(second.test.x[:, 1] - first.test.x[:, 1], expected, rtol=1e-5)


def test_a_feature_that_is_constant_in_training_is_only_centred(save):
    constant = X.copy()
    constant[:, 2] = 7.0
    data = load_data(save(x=constant, y=Y))
    np.testing.assert_array_equal(data.test.x[:, 2], 0.0)


def test_labels_may_be_any_whole_numbers(save):
    data = load_data(save(x=X, y=np.array([-5.0, 10.0, 1e6])[Y]))
    assert data.classes == 3
    assert sorted(set(data.train.y)) == [0, 1, 2]


def test_the_fingerprint_tells_contents_apart(save):
    first = load_data(save(x=X, y=Y)).fingerprint
    assert load_data(save(x=X, y=Y)).fingerprint == first
    assert load_data(save(x=X + 1, y=Y)).fingerprint != first
    assert load_data(save(x=X, y=(Y + 1) % 3)).fingerprint != first


def with_entry(value):
    changed = X.copy()
    changed[3, 1] = value
    return changed


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"y": Y}, "has no array 'x'; it holds y"),
        ({"x": X}, "has no array 'y'; it holds x"),
        ({"x": X, "y": Y[:-1]}, "x and y do not match, 60 examples but 59 labels"),
        ({"x": with_entry(np.nan), "y": Y}, "x is not finite everywhere .1 of 240"),
        ({"x": with_entry(-np.inf), "y": Y}, "x is not finite everywhere"),
        ({"x": np.sign(X) * 1e308, "y": Y}, "too large to standardise"),
        ({"x": X[:, 0], "y": Y}, "x must have examples along its first axis.*shape .60,"),
        ({"x": X[:0], "y": Y[:0]}, r"got shape \(0, 4\)"),
        ({"x": X + 1j, "y": Y}, "x must hold real numbers, got complex128"),
        ({"x": X.astype(str), "y": Y}, "x must hold real numbers, got <U"),
        ({"x": X.astype(object), "y": Y}, "x cannot be read: Object arrays"),
        ({"x": X, "y": Y[:, None]}, r"y must have one axis, got shape \(60, 1\)"),
        ({"x": X, "y": Y + 0.5}, "labels y must be whole numbers, got 0.5"),
        ({"x": X, "y": np.where(Y == 0, np.nan, Y)}, "whole numbers, got nan"),
        ({"x": X, "y": Y.astype(str)}, "labels y must be whole numbers, got <U"),
        ({"x": X, "y": 0 * Y + 4}, "one class only .4."),
        ({"x": X, "y": np.where(np.arange(60) < 2, 9, Y)}, "class 9 has too few examples, 2"),
    ],
)
def test_bad_contents_are_refused_with_the_reason(save, arrays, message):
    with pytest.raises(InputError, match=message):
        load_data(save(**arrays))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not an .npz archive"),
        (b"x,y\n1,2\n", "is not an .npz archive"),
        (b"PK\x03\x04 and then nothing", "is not an .npz archive"),
    ],
)
def test_files_of_another_kind_are_refused(tmp_path, content, message):
    path = tmp_path / "mine.npz"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        load_data(str(path))


def test_damaged_and_odd_archives_are_refused(save, tmp_path):
    whole = (tmp_path / save(x=X, y=Y)).read_bytes()
    damaged = tmp_path / "damaged.npz"
    damaged.write_bytes(whole[:500] + bytes(100) + whole[600:])
    with pytest.raises(InputError, match="x cannot be read: Bad CRC"):
        load_data(str(damaged))
    damaged.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"not an \.npz archive"):
        load_data(str(damaged))
    single = tmp_path / "single.npy"
    np.save(single, X)
    with pytest.raises(InputError, match="holds a single array"):
        load_data(str(single))
    with zipfile.ZipFile(tmp_path / "raw.npz", "w") as archive:
        archive.writestr("x", "text")
        archive.writestr("y", "text")
    with pytest.raises(InputError, match="x is not an array"):
        load_data(str(tmp_path / "raw.npz"))


@pytest.mark.parametrize("source", ["digit", "", "no/such/thing", "a" * 5000])
def test_unknown_names_are_refused(source):
    with pytest.raises(InputError, match="give digits, breast-cancer, wine, or the path"):
        load_data(source)


def test_paths_that_cannot_be_read_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"missing\.npz does not exist"):
        load_data(str(tmp_path / "missing.npz"))
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        load_data(str(tmp_path))
