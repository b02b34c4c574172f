"""Files that are written as a whole, or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from clipax.lab._errors import InputError

__all__ = ["make_folder_error", "write_whole"]


def write_whole(path: Path, content: bytes) -> None:
    """Write a file under another name and move it, so that a crash leaves the old or the new.

    Args:
      path: the file.
      content: all of it.

    Raises:
      OSError: it cannot be written; the old file is as it was.
    """
    # Of this process alone: another may write its report at the same time.
    draft = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with draft.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError:
        if draft.is_file():
            draft.unlink()
        raise


def make_folder_error(folder: Path, error: OSError) -> InputError:
    """Make the error of a folder that cannot be used."""
    return InputError(f"output folder {folder} cannot be used: {error.strerror or error}.")
