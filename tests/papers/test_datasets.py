"""Readers of the published formats on tiny files, and the sets that need no file."""

from __future__ import annotations

import lzma
import struct
from pathlib import Path

import numpy as np
import pytest

from benchmarks.papers import datasets, formats
from clipax.lab import InputError


def _idx(array: np.ndarray) -> bytes:
    head = bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape)
    return head + array.astype(np.uint8).tobytes()


def _write(folder: Path, name: str, content: bytes) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(lzma.compress(content) if name.endswith(".xz") else content)


def test_sets_of_a_folder(tmp_path: Path) -> None:
    _write(tmp_path / "libsvm", "w1a.xz", b"-1 2:0.5 300:1 \n-1 \n+1 1:1\n")
    name, rows = datasets.binary(tmp_path)
    assert name == "w1a"
    assert rows.x.shape == (3, 300)
    assert rows.x[0, [1, 299]].tolist() == [0.5, 1.0]
    assert rows.x.sum(axis=1).tolist() == [1.5, 0.0, 1.0]
    assert rows.y.tolist() == [-1, -1, 1]

    _write(tmp_path / "cola", "in_domain_train.tsv.xz", b"a\t1\t\tOne \xc2\x85 line.\nb\t0\t*\tTwo")
    _write(tmp_path / "cola", "in_domain_dev.tsv", b"c\t1\t\tThree.\n")
    _write(tmp_path / "cola", "out_of_domain_dev.tsv", b"d\t0\t*\tFour.\n")
    found = datasets.sentences(tmp_path)
    assert found.train == ["One \x85 line.", "Two"]
    assert found.train_classes.tolist() == [1, 0]
    assert found.validation == ["Three.", "Four."]
    assert found.validation_classes.tolist() == [1, 0]

    images = np.arange(24).reshape(2, 3, 4)
    for part in ("train20k", "t10k"):
        _write(tmp_path / "fashion_mnist", f"{part}-images-idx3-ubyte.xz", _idx(images))
        _write(tmp_path / "fashion_mnist", f"{part}-labels-idx1-ubyte", _idx(np.array([7, 1])))
    fashion = datasets.fashion_mnist(tmp_path)
    assert fashion.train.x.shape == (2, 3, 4, 1)
    np.testing.assert_allclose(fashion.test.x[1, 2, 3, 0] * 255, 23, rtol=1e-6)
    assert fashion.train.y.tolist() == [7, 1]

    record = bytes([3]) + b"".join(bytes([plane]) * 1024 for plane in (0, 51, 255))
    for part in ("train", "test"):
        _write(tmp_path / "cifar10", f"cifar10_{part}_part0.bin.xz", 2 * record)
    cifar = datasets.cifar10(tmp_path)
    assert cifar.test.x.shape == (2, 32, 32, 3)
    np.testing.assert_allclose(cifar.train.x[1, 5, 6], [0, 0.2, 1], rtol=1e-6)
    assert cifar.train.y.tolist() == [3, 3]

    _write(tmp_path / "tinyshakespeare", "input.txt.xz", "Hé".encode())
    assert datasets.text(tmp_path) == ("tiny Shakespeare", "Hé")

    _write(tmp_path / "wikitext2", "wiki.train.tokens.permuted.xz", " \n = Hé = \n".encode())
    _write(tmp_path / "wikitext2", "wiki.valid.tokens", b" One @-@ <unk> \n")
    found_words = datasets.words(tmp_path)
    assert found_words.train == ["<eos>", "=", "Hé", "=", "<eos>"]
    assert found_words.validation == ["One", "@-@", "<unk>", "<eos>"]


def test_sets_without_a_folder() -> None:
    name, rows = datasets.binary(None)
    assert (name, rows.x.shape, set(rows.y)) == ("breast cancer", (569, 30), {-1, 1})
    np.testing.assert_allclose(rows.x.std(axis=0), 1, rtol=1e-5)
    digits = datasets.cifar10(None)
    assert digits.name == datasets.fashion_mnist(None).name == "digits"
    assert len(digits.train) + len(digits.test) == 1797
    assert digits.train.x.max() == 1
    assert len(datasets.text(None)[1]) > 10_000
    running = datasets.words(None)
    assert len(running.train) > len(running.validation) > 1000
    lines = datasets.sentences(None)
    assert set(lines.validation_classes) <= set(lines.train_classes)
    assert len(lines.train) == len(lines.train_classes) > 100


def test_a_file_that_is_missing_or_not_packed(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"expected w1a or w1a\.xz in .*libsvm\."):
        datasets.binary(tmp_path)
    _write(tmp_path / "libsvm", "w1a", b"-1 301:1\n")
    with pytest.raises(InputError, match="w1a names feature 301, more than 300"):
        datasets.binary(tmp_path)
    _write(tmp_path / "cola", "in_domain_train.tsv", b"c\t1\t\tThree.\n")
    for broken in (b"no archive", lzma.compress(b"c\t1\t\tThree.\n")[:-9]):
        (tmp_path / "cola" / "in_domain_train.tsv.xz").write_bytes(broken)
        with pytest.raises(InputError, match=r"in_domain_train\.tsv\.xz is not packed by xz"):
            datasets.sentences(tmp_path)
    (tmp_path / "tinyshakespeare" / "input.txt").mkdir(parents=True)
    with pytest.raises(InputError, match=r"cannot read input\.txt"):
        datasets.text(tmp_path)


def test_malformed_sentences() -> None:
    for line in (b"c\t1\tFour.", b"c\t2\t\tFour.", b""):
        with pytest.raises(InputError, match="s, line 2: expected source"):
            formats.parse_sentences(b"c\t1\t\tThree.\n" + line + b"\n", "s")
    with pytest.raises(InputError, match="s has no lines"):
        formats.parse_sentences(b"", "s")
    with pytest.raises(InputError, match="s is not text in UTF-8"):
        formats.parse_sentences(b"\xff", "s")


def test_malformed_images(tmp_path: Path) -> None:
    good = _idx(np.zeros((2, 3)))
    assert formats.parse_idx(good, "i").shape == (2, 3)
    for bad in (b"", good[:3], b"\0\0\x0d\2" + good[4:]):
        with pytest.raises(InputError, match="i is not an idx file of bytes"):
            formats.parse_idx(bad, "i")
    for bad in (good[:6], good[:-1], good + b"\0"):
        with pytest.raises(InputError, match=r"i has .* bytes, which does not match sizes"):
            formats.parse_idx(bad, "i")
    for bad in (b"", bytes(3072), bytes(3074)):
        with pytest.raises(InputError, match="no whole number of 3073"):
            formats.parse_records(bad, "r")
    with pytest.raises(InputError, match="r has a label of 10, above 9"):
        formats.parse_records(bytes([10]) + bytes(3072), "r")
    for part in ("train20k", "t10k"):
        _write(tmp_path / "fashion_mnist", f"{part}-images-idx3-ubyte", _idx(np.zeros((2, 3, 4))))
        _write(tmp_path / "fashion_mnist", f"{part}-labels-idx1-ubyte", _idx(np.zeros(3)))
    with pytest.raises(InputError, match=r"shape \(2, 3, 4\) and labels of shape \(3,\)"):
        datasets.fashion_mnist(tmp_path)


def test_a_pixel_of_a_smaller_image_is_the_mean_of_a_square() -> None:
    images = np.arange(2 * 6 * 9 * 3, dtype=np.float32).reshape(2, 6, 9, 3)
    small = datasets.shrink(images, 2)
    assert small.shape == (2, 2, 3, 3)
    assert small.dtype == images.dtype
    np.testing.assert_array_equal(small[1, 1, 2, 0], images[1, 3:, 6:, 0].mean())
    np.testing.assert_array_equal(datasets.shrink(images, 4), images)
