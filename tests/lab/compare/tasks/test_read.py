"""Files of data: LIBSVM text beside archives, and damage of every kind ends in one line."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import struct
import zipfile

import numpy as np
import pytest

from clipax.lab._compare.tasks.data import load_data
from clipax.lab._errors import InputError

X = np.random.default_rng(0).normal(3.0, 5.0, size=(60, 4))
Y = np.arange(60) % 3
TEXT = "".join(
    f"{y} " + " ".join(f"{j + 1}:{v!r}" for j, v in enumerate(x.tolist())) + "\n"
    for x, y in zip(X, Y, strict=True)
)


@pytest.mark.parametrize(
    ("name", "pack"),
    [
        ("iris.scale", bytes),
        ("a1a", bytes),
        ("d.libsvm.xz", lzma.compress),
        ("d.svm.gz", gzip.compress),
        ("d.txt.bz2", bz2.compress),
    ],
)
def test_libsvm_text_is_read_as_an_archive_is(tmp_path, name, pack):
    path = tmp_path / name
    path.write_bytes(pack(TEXT.encode()))
    np.savez(tmp_path / "d.npz", x=X.astype(np.float32), y=Y)
    found, expected = load_data(str(path)), load_data(str(tmp_path / "d.npz"))
    assert (found.name, found.classes) == (name, 3)
    for part in ("train", "validation", "test"):
        np.testing.assert_array_equal(getattr(found, part).x, getattr(expected, part).x)
        np.testing.assert_array_equal(getattr(found, part).y, getattr(expected, part).y)


@pytest.mark.parametrize("label", ["16777217", "9007199254740993", "1e30", "-16777219"])
def test_labels_of_text_never_merge(tmp_path, label):
    path = tmp_path / "labels"
    path.write_text(f"1 1:1\n{label} 1:2\n")
    with pytest.raises(
        InputError, match=f"line 2: whole labels must be exact in float32, got '{label}'"
    ):
        load_data(str(path))
    path.write_text("16777216 1:1\n" * 9 + "16777218 1:2\n" * 9)
    assert load_data(str(path)).classes == 2


@pytest.mark.parametrize("suffix", [".xz", ".gz", ".bz2"])
def test_a_packed_file_that_is_cut_off(tmp_path, suffix):
    pack = {".xz": lzma.compress, ".gz": gzip.compress, ".bz2": bz2.compress}[suffix]
    path = tmp_path / f"d{suffix}"
    whole = pack(TEXT.encode())
    for content in (whole[:-9], whole[: len(whole) // 2], TEXT.encode(), whole[:50] + bytes(60)):
        path.write_bytes(content)
        with pytest.raises(InputError, match=f"d{suffix} is not a complete {suffix[1:]} file"):
            load_data(str(path))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "has no rows"),
        (b"a,b\n1,2\n", "line 1: expected a number, got 'a,b'"),
        (b"\x89PNG\r\n\x1a\n", "is not text"),
        (b"\x80\x04\x95", "is not text"),
        (b"<html>", "line 1: expected a number"),
        (b"\x93NUMPY garbage", "is not an .npz archive, or is damaged"),
        (b"PK\x03\x04 garbage", "is not an .npz archive, or is damaged"),
    ],
)
def test_files_of_another_kind(tmp_path, content, message):
    path = tmp_path / "data"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        load_data(str(path))


def test_an_archive_without_its_suffix_and_a_folder_with_it(tmp_path):
    np.savez(tmp_path / "d.npz", x=X, y=Y)
    (tmp_path / "archive").write_bytes((tmp_path / "d.npz").read_bytes())
    assert load_data(str(tmp_path / "archive")).classes == 3
    (tmp_path / "folder.npz").mkdir()
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        load_data(str(tmp_path / "folder.npz"))
    np.save(tmp_path / "one.npy", X)
    with pytest.raises(InputError, match=r"holds a single array.*np\.savez\(file, x=x, y=y\)"):
        load_data(str(tmp_path / "one.npy"))


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def header(text, version=b"\x01\x00"):
    text = text.encode() + b" " * (-(10 + len(text) + 1) % 64) + b"\n"
    return b"\x93NUMPY" + version + struct.pack("<H", len(text)) + text


def archive(path, x, compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", compression) as file:
        file.writestr("x.npy", x)
        file.writestr("y.npy", npy(Y))
    return bytearray(path.read_bytes())


HEADERS = {
    "cut off": header("{'descr': '<f4', 'fortran_order': False, 'shape': (60, 4)"),
    "a shape of 1e20": header(
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1" + "0" * 20 + ", 4)}"
    ),
    "a shape of 1e15": header(
        "{'descr': '<f8', 'fortran_order': False, 'shape': (1" + "0" * 15 + ", 4)}"
    ),
    "a negative shape": header("{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 4)}"),
    "no shape": header("{'descr': '<f4', 'fortran_order': False}"),
    "an unknown type": header("{'descr': '<q7', 'fortran_order': False, 'shape': (60, 4)}"),
    "objects": header("{'descr': '|O', 'fortran_order': False, 'shape': (60, 4)}"),
    "code": header("__import__('os').getcwd()"),
    "unclosed": header("((((((((('"),
    "nested": header("(" * 3000),
    "no dictionary": header("3"),
    "zero bytes": header("\0" * 30),
    "version 9": header("{}", b"\x09\x00"),
    "no data": header("{'descr': '<f4', 'fortran_order': False, 'shape': (60, 4)}"),
    "a header only begun": b"\x93NUMPY\x01",
    "nothing": b"",
}


@pytest.mark.parametrize("kind", HEADERS)
def test_bad_arrays_end_in_one_line(tmp_path, kind):
    path = tmp_path / "d.npz"
    archive(path, HEADERS[kind])
    with pytest.raises(InputError, match=r"d\.npz: x (cannot be read: .|is not an array)") as error:
        load_data(str(path))
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400


def patched(data, local, central, value):
    """Return an archive with a byte of all its headers changed."""
    for magic, offset in ((b"PK\x03\x04", local), (b"PK\x01\x02", central)):
        at = data.find(magic)
        while at >= 0:
            data[at + offset] = value
            at = data.find(magic, at + 4)
    return data


def test_archives_of_other_programs_end_in_one_line(tmp_path):
    path = tmp_path / "d.npz"
    for local, central, value, message in (
        (6, 8, 1, "x cannot be read: .*password"),
        (8, 10, 93, "x cannot be read: "),
        (8, 10, 77, "x cannot be read: "),
    ):
        path.write_bytes(patched(archive(path, npy(X)), local, central, value))
        with pytest.raises(InputError, match=message):
            load_data(str(path))


@pytest.mark.parametrize("packing", ["ZIP_STORED", "ZIP_DEFLATED", "ZIP_BZIP2", "ZIP_LZMA"])
def test_damage_anywhere_is_refused_or_leaves_the_arrays_as_they_are(tmp_path, packing):
    path = tmp_path / "d.npz"
    whole = archive(path, npy(X), getattr(zipfile, packing))
    expected = load_data(str(path)).fingerprint
    random = np.random.default_rng(0)
    refused = 0
    for round in range(150):
        data = bytearray(whole)
        start = int(random.integers(len(whole)))
        if round % 3 == 0:
            data = data[:start]
        else:
            data[start : start + round % 20] = random.bytes(round % 20)
        path.write_bytes(data)
        try:
            assert load_data(str(path)).fingerprint == expected
        except InputError:
            refused += 1
    assert refused > 50
