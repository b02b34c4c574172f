"""The reader of LIBSVM text, beside scikit-learn's."""

from __future__ import annotations

import lzma

import numpy as np
import pytest
from sklearn.datasets import load_svmlight_file

from clipax.lab import InputError
from clipax.lab.problems import load_libsvm

TEXT = "+1 1:0.5 4:-2e-3 \n-1\n\n# a note\n-1 2:3 3:4.25 # another\n1.0 4:1\n"


def test_it_reads_what_scikit_learn_reads(tmp_path):
    random = np.random.default_rng(0)
    dense = random.normal(size=(60, 9)) * (random.random((60, 9)) < 0.3)
    lines = [
        " ".join([str(row % 2 * 2 - 1), *(f"{j + 1}:{v:.9g}" for j, v in enumerate(x) if v)])
        for row, x in enumerate(dense)
    ]
    path = tmp_path / "random"
    path.write_text(TEXT + "\n".join(lines))
    x, y = load_libsvm(path)
    expected, labels = load_svmlight_file(str(path), dtype=np.float32, zero_based=False)
    np.testing.assert_array_equal(x, expected.toarray())
    np.testing.assert_array_equal(y, labels)
    assert x.shape == (64, 9)
    assert x.dtype == y.dtype == np.float32
    np.testing.assert_allclose(x[4:], dense, rtol=1e-6)
    np.testing.assert_array_equal(x[1], 0)  # a row without features
    packed = tmp_path / "random.xz"
    packed.write_bytes(lzma.compress(path.read_bytes()))
    for one, other in zip(load_libsvm(packed), (x, y), strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_number_of_columns_can_be_given(tmp_path):
    path = tmp_path / "few"
    path.write_text("1 2:1\n-1 1:3\n")
    assert load_libsvm(str(path), features=5)[0].tolist() == [[0, 1, 0, 0, 0], [3, 0, 0, 0, 0]]
    with pytest.raises(InputError, match=r"few names feature 2, more than 1\.$"):
        load_libsvm(path, features=1)
    path.write_text("1\n-1\n")
    assert load_libsvm(path)[0].shape == (2, 0)


LINES = {
    "1 1:2 3": "expected a number, got ''",
    "one 1:2": "expected a number, got 'one'",
    "1 a:2": "expected index:value with a whole number as index, got 'a'",
    "1 1.5:2": "expected index:value with a whole number as index, got '1.5'",
    "1 -1:2": "expected index:value with a whole number as index, got '-1'",
    "1 qid:3 1:2": "expected index:value with a whole number as index, got 'qid'",
    "1 0:2": "indices must begin at 1, got 0",
    "1 2:1 2:3": "indices must increase, the one before is 2, got 2",
    "1 3:1 2:3": "indices must increase, the one before is 3, got 2",
    "1 1:nan": "numbers must be finite in float32, got 'nan'",
    "1 1:1e39": "numbers must be finite in float32, got '1e39'",
    "inf 1:1": "numbers must be finite in float32, got 'inf'",
    "1 1:1_0": "expected a number, got '1_0'",
    "1 1:2:3": "expected a number, got '2:3'",
}


@pytest.mark.parametrize("line", LINES)
def test_a_malformed_line_is_named(tmp_path, line):
    path = tmp_path / "bad"
    path.write_text(f"1 1:1\n\n{line}\n1 x\n")
    with pytest.raises(InputError) as error:
        load_libsvm(path)
    assert str(error.value) == f"data file {path}, line 3: {LINES[line]}."


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    path, packed = tmp_path / "data", tmp_path / "data.xz"
    whole = lzma.compress(b"1 1:1\n" * 10_000)
    cases = {
        "is not a complete xz file": (packed, b"1 1:1\n"),
        "is not a complete xz": (packed, whole[:-20]),
        "has no rows": (path, b"# nothing\n"),
        "is not text": (path, b"1 1:1\n\xff\xfe\n"),
        "would be too large as a table": (path, b"1 99999999999:1\n"),
    }
    for message, (file, content) in cases.items():
        file.write_bytes(content)
        with pytest.raises(InputError, match=rf"^data file .*{file.name} {message}"):
            load_libsvm(file)
    with pytest.raises(InputError, match=r"none does not exist\.$"):
        load_libsvm(tmp_path / "none")
    with pytest.raises(InputError, match=r"cannot be read: Is a directory\.$"):
        load_libsvm(tmp_path)
