"""Formats of the published data sets: from the bytes of a file to arrays or text."""

from __future__ import annotations

import lzma
from pathlib import Path

import numpy as np

from clipax.lab import InputError, Split

__all__ = [
    "decode",
    "find",
    "parse_idx",
    "parse_records",
    "parse_sentences",
    "read",
]

_IDX_BYTES = 0x08  # the only type of entries that the image sets use
_RECORD = 1 + 3 * 32 * 32


def find(data_dir: Path, folder: str, name: str) -> Path:
    """Where `data_dir/folder/name` is, or the same packed by xz (`name.xz`).

    Args:
      data_dir: Folder of the data sets.
      folder: The data set's folder in it.
      name: The file's name, without `.xz`.

    Returns:
      The packed file where it is there, else the plain one.

    Raises:
      InputError: Neither is there.
    """
    for path in (data_dir / folder / f"{name}.xz", data_dir / folder / name):
        if path.exists():
            return path
    raise InputError(f"expected {name} or {name}.xz in {data_dir / folder}.")


def read(data_dir: Path, folder: str, name: str) -> bytes:
    """Content of the file that `find` gives, unpacked.

    Args:
      data_dir: Folder of the data sets.
      folder: The data set's folder in it.
      name: The file's name, without `.xz`.

    Returns:
      The bytes.

    Raises:
      InputError: There is no such file or it cannot be read or unpacked.
    """
    path = find(data_dir, folder, name)
    try:
        content = path.read_bytes()
        return lzma.decompress(content) if path.suffix == ".xz" else content
    except OSError as error:
        raise InputError(f"cannot read {name} in {data_dir / folder}: {error.strerror}.") from None
    except lzma.LZMAError as error:
        raise InputError(f"{path} is not packed by xz: {error}.") from None


def parse_sentences(content: bytes, name: str) -> tuple[list[str], np.ndarray]:
    """Lines of four columns, tab by tab: source, label 0 or 1, author's mark, sentence.

    Args:
      content: The file, in UTF-8.
      name: What to call it in errors.

    Returns:
      The sentences and their labels.

    Raises:
      InputError: It is malformed or has no lines.
    """
    texts, labels = [], []
    decode(content, name)  # an error here is one of the file
    for number, line in enumerate(content.splitlines(), start=1):
        columns = line.decode("utf-8").split("\t")
        if len(columns) != 4 or columns[1] not in ("0", "1"):
            raise InputError(f"{name}, line {number}: expected source, 0 or 1, mark and sentence.")
        texts.append(columns[3])
        labels.append(int(columns[1]))
    if not texts:
        raise InputError(f"{name} has no lines.")
    return texts, np.array(labels, np.int32)


def parse_idx(content: bytes, name: str) -> np.ndarray:
    """The idx format with entries of one byte: magic number, sizes, entries.

    Args:
      content: The file.
      name: What to call it in errors.

    Returns:
      The array, of uint8.

    Raises:
      InputError: It is malformed.
    """
    if len(content) < 4 or content[:3] != bytes((0, 0, _IDX_BYTES)):
        raise InputError(f"{name} is not an idx file of bytes: it starts with {content[:4].hex()}.")
    start = 4 + 4 * content[3]
    sizes = content[4:start].ljust(start - 4, b"\0")  # of a file that ends in its head: zeros
    shape = tuple(int(size) for size in np.frombuffer(sizes, ">u4"))
    if len(content) != start + int(np.prod(shape)):
        raise InputError(f"{name} has {len(content)} bytes, which does not match sizes {shape}.")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def parse_records(content: bytes, name: str) -> Split:
    """Records of CIFAR-10: a label and three planes of 32x32.

    Args:
      content: The file.
      name: What to call it in errors.

    Returns:
      Images of shape (n, 32, 32, 3) in [0, 1], and labels.

    Raises:
      InputError: It is no whole number of records, or a label is above 9.
    """
    if not content or len(content) % _RECORD:
        raise InputError(f"{name} has {len(content)} bytes, no whole number of {_RECORD}.")
    records = np.frombuffer(content, np.uint8).reshape(-1, _RECORD)
    if records[:, 0].max() > 9:
        raise InputError(f"{name} has a label of {records[:, 0].max()}, above 9.")
    images = records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return Split((images / 255).astype(np.float32), records[:, 0].astype(np.int32))


def decode(content: bytes, name: str) -> str:
    """Text in UTF-8.

    Args:
      content: The file.
      name: What to call it in errors.

    Returns:
      The text.

    Raises:
      InputError: It is no UTF-8.
    """
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{name} is not text in UTF-8: {error}.") from None
