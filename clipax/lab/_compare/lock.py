"""The lock of an output folder: one comparison at a time.

`flock` on a file, because the kernel drops it when its process dies, however it dies: nothing has
to guess whether a process still lives, and no two can take over the same stale lock. NFS carries
it between hosts where its lock service runs. Where it does not, the file still says that a process
of another host is at work, and is believed until it is removed.
"""

from __future__ import annotations

import json
import os
import shlex
import socket
import sys
import time
from pathlib import Path
from types import TracebackType

from clipax.lab._errors import InputError

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["FolderLock"]

_MOST_BYTES = 10_000


class FolderLock:
    """Holds a folder from `acquire` to `release`, or through a `with` block.

    Args:
      folder: an existing folder.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "results.lock"
        self._descriptor: int | None = None

    @property
    def held(self) -> bool:
        """Whether this object holds the folder."""
        return self._descriptor is not None

    def acquire(self) -> str | None:
        """Take the lock.

        Returns:
          Who left it behind, where a process of this host died with it; else None.

        Raises:
          InputError: another process holds the folder; the message says which.
          OSError: the file cannot be written.
        """
        while True:
            descriptor, locked = self._open()
            left = _describe(_read(descriptor)) if locked else _await_holder(descriptor)
            if not locked or (left and left["host"] != socket.gethostname()):
                os.close(descriptor)
                raise InputError(self._refuse(left))
            if self._is_current(descriptor):
                break
            # Its holder removed the file in between: this one is not the folder's any more.
            os.close(descriptor)
        try:
            os.ftruncate(descriptor, 0)
            os.lseek(descriptor, 0, os.SEEK_SET)
            os.write(descriptor, _introduce())
        except OSError:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        return f"process {left['pid']} ({left['command']})" if left else None

    def release(self) -> None:
        """Give the folder back."""
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            if fcntl is None:  # Windows does not remove an open file
                os.close(descriptor)
                self.path.unlink(missing_ok=True)
                return
            # Removed while it is held, or it might be the next holder's.
            self.path.unlink(missing_ok=True)
            os.close(descriptor)

    def __enter__(self) -> FolderLock:
        self.acquire()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()

    def _open(self) -> tuple[int, bool]:
        """Open the file; also say whether it could be locked."""
        if fcntl is None:
            return _open_alone(self.path)
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return descriptor, False
        except OSError:
            # A file system without locks: the file alone says whether a process is at work.
            left = _describe(_read(descriptor))
            return descriptor, left is None or not _lives(left)
        return descriptor, True

    def _is_current(self, descriptor: int) -> bool:
        try:
            return os.path.samestat(os.fstat(descriptor), self.path.stat())
        except FileNotFoundError:
            return False

    def _refuse(self, holder: dict[str, str] | None) -> str:
        folder = self.path.parent
        if holder is None:
            return f"output folder {folder} is in use by another process; choose another --out."
        who = f"process {holder['pid']} on {holder['host']} since {holder['started']}"
        advice = "wait for it, or choose another --out"
        if fcntl is None or holder["host"] != socket.gethostname():
            advice += f"; if it has ended, remove {self.path}"
        return f"output folder {folder} is in use by {who} ({holder['command']}); {advice}."


def _open_alone(path: Path) -> tuple[int, bool]:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666), True
    except FileExistsError:
        return os.open(path, os.O_RDWR), False


def _await_holder(descriptor: int) -> dict[str, str] | None:
    """Read who holds the lock, once a process that has just taken it has written that."""
    for _ in range(20):
        holder = _describe(_read(descriptor))
        if holder and _lives(holder):
            return holder
        time.sleep(0.05)
    return None


def _lives(holder: dict[str, str]) -> bool:
    """Whether a process may still be there; of another host nobody knows."""
    if holder["host"] != socket.gethostname() or not holder["pid"].isdecimal():
        return True
    try:
        os.kill(int(holder["pid"]), 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _read(descriptor: int) -> bytes:
    os.lseek(descriptor, 0, os.SEEK_SET)
    return os.read(descriptor, _MOST_BYTES)


def _introduce() -> bytes:
    holder = {
        "pid": str(os.getpid()),
        "host": socket.gethostname(),
        "started": time.strftime("%Y-%m-%d %H:%M:%S"),
        "command": shlex.join(sys.argv)[:500],
    }
    return json.dumps(holder).encode()


def _describe(content: bytes) -> dict[str, str] | None:
    """Read who holds the lock; None where it does not say."""
    try:
        holder = json.loads(content)
        names = ("pid", "host", "started", "command")
        return {name: str(holder[name])[:200] for name in names}
    except (ValueError, TypeError, LookupError, RecursionError):
        return None
