"""A user's data, as a file."""

from __future__ import annotations

import numpy as np
import pytest


@pytest.fixture
def save(tmp_path):
    """Saves arrays as an .npz file and gives its path."""

    def saved(**arrays):
        path = tmp_path / "mine.npz"
        np.savez(path, **arrays)
        return str(path)

    return saved
