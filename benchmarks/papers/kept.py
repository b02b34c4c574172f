"""Finished pieces of a long part, on disk, so that a run that was stopped goes on where it was."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import numpy as np

__all__ = ["remembered"]


def remembered(
    folder: Path | None, name: str, make: Callable[[], dict[str, np.ndarray]]
) -> dict[str, np.ndarray]:
    """What `make` gives, read from a file where it was made before.

    Args:
      folder: Where the files are; it is made when needed. None: nothing is kept.
      name: All that the arrays depend on.
      make: Computes them.

    Returns:
      The arrays.

    Raises:
      OSError: If the file cannot be read or written.
    """
    if folder is None:
        return make()
    path = folder / f"{re.sub(r'[^a-zA-Z0-9.]+', '-', name)}.npz"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        arrays: dict[str, Any] = make()
        with NamedTemporaryFile(dir=folder, suffix=".part", delete=False) as file:
            np.savez(file, **arrays)
        Path(file.name).replace(path)  # a file is there whole or not at all
    with np.load(path) as found:
        return dict(found)
