"""Data sets: splits, standardisation, and files that are refused."""

from __future__ import annotations

import zipfile

import numpy as np
import pytest

from clipax.lab._compare.tasks.data import BUILT_IN, load_data
from clipax.lab._errors import InputError

X = np.random.default_rng(0).normal(3.0, 5.0, size=(60, 4))
Y = np.arange(60) % 3


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
        (
            {"x": X[:, 0], "y": Y},
            r"x must have examples .*shape \(60,\); a single feature is x\[:, None\]",
        ),
        ({"x": X[:0], "y": Y[:0]}, r"got shape \(0, 4\)"),
        ({"x": X + 1j, "y": Y}, "x must hold real numbers, got complex128"),
        ({"x": X.astype(str), "y": Y}, "x must hold real numbers, got <U"),
        (
            {"x": X.astype(object), "y": Y},
            r"x cannot be read: it holds Python objects; save numbers, as by `x\.astype\(float\)`",
        ),
        (
            {"x": X, "y": Y[:, None]},
            r"y must have one axis, got shape \(60, 1\); give y\.ravel\(\)\.$",
        ),
        ({"x": X, "y": Y + 0.5}, "labels y must be whole numbers, got 0.5"),
        ({"x": X, "y": np.where(Y == 0, np.nan, Y)}, "whole numbers, got nan"),
        (
            {"x": X, "y": Y.astype(str)},
            "labels y must be whole numbers, got <U21; number them by np.uni",
        ),
        ({"x": X.T, "y": Y}, r"4 examples but 60 labels; x has its.*: np\.moveaxis\(x, 1, 0\)\.$"),
        ({"x": X, "y": Y[None]}, r"got shape \(1, 60\); give y\.ravel\(\)"),
        ({"x": X, "y": np.eye(3)[Y]}, r"got shape \(60, 3\), one-hot labels; give y\.argmax"),
        ({"x": X, "y": np.eye(3, dtype=bool)[Y]}, "one-hot labels"),
        ({"x": X, "y": np.ones((60, 3))}, r"got shape \(60, 3\)\.$"),
        ({"x": Y[:, None][:, 0], "y": X}, r"x must have examples"),
        ({"x": X, "y": Y.astype(object)}, "y cannot be read: it holds Python objects"),
        ({"x": X, "y": Y.astype(bytes)}, r"whole numbers, got \|S"),
        ({"x": X, "y": Y.astype("datetime64[s]")}, "whole numbers, got datetime64"),
        ({"x": X, "y": Y, "z": Y[:2]} | {"y": Y[:0]}, "60 examples but 0 labels"),
        ({"x": X, "y": 0 * Y + 4}, "one class only .4."),
        ({"x": X, "y": np.where(np.arange(60) < 2, 9, Y)}, "class 9 has too few examples, 2"),
    ],
)
def test_bad_contents_are_refused_with_the_reason(save, arrays, message):
    with pytest.raises(InputError, match=message):
        load_data(save(**arrays))


@pytest.mark.parametrize(
    ("names", "proposed"),
    [
        (("arr_0", "arr_1"), ("arr_0", "arr_1")),
        (("X", "y"), ("X", "y")),
        (("x", "Y"), ("x", "Y")),
        (("X_train", "y_train", "X_test", "y_test"), ("X_train", "y_train")),
        (("x_test", "x_train", "y_test", "y_train"), ("x_train", "y_train")),  # as of Keras
        (("data", "target"), ("data", "target")),
        (("images", "labels"), ("images", "labels")),
        (("weights", "biases"), None),
        (("arr_0",), None),
    ],
)
def test_common_names_of_the_arrays_are_recognised(save, names, proposed):
    arrays = dict.fromkeys(names, X)
    with pytest.raises(InputError, match=r"has no array '[xy]'; it holds ") as error:
        load_data(save(**arrays))
    if proposed is None:
        assert "Rename" not in str(error.value)
    else:
        advice = f"np.savez(file, x=d[{proposed[0]!r}], y=d[{proposed[1]!r}])."
        assert str(error.value).endswith(f" Rename them: d = np.load(file); {advice}")


LABELS = {
    "beyond int64": np.array([2**63, 2**63 + 1, 2**64 - 1], np.uint64),
    "the ends of int64": np.array([-(2**63), 0, 2**63 - 1]),
    "next to each other": np.array([2**62, 2**62 + 1, 2**62 + 2]),
    "huge floats": np.array([1e300, 2e300, -1e300]),
    "half": np.array([60000, 60032, -5], np.float16),
    "logical": np.array([False, True, True]),
}


@pytest.mark.parametrize("kind", LABELS)
def test_no_two_labels_become_one(save, kind):
    data = load_data(save(x=X, y=LABELS[kind][Y]))
    assert data.classes == len(set(LABELS[kind].tolist()))
    expected = load_data(save(x=X, y=np.unique(LABELS[kind][Y], return_inverse=True)[1]))
    np.testing.assert_array_equal(data.train.y, expected.train.y)


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
    with pytest.raises(
        InputError,
        match=r"give digits, breast-cancer, wine, or the path of an \.npz or LIBSVM file",
    ):
        load_data(source)


def test_paths_that_cannot_be_read_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"missing\.npz does not exist"):
        load_data(str(tmp_path / "missing.npz"))
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        load_data(str(tmp_path))
