"""What the programs of `benchmarks.sweep` need of a device's memory, and what it has."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

import jax

from benchmarks import torch_steps

__all__ = ["fits", "needed", "room"]

# The rest is for temporaries, and for what the allocator cannot join.
_SHARE_OF_ROOM = 0.7


def needed(size: int, held: int, programs: Collection[str]) -> int:
    """Bytes that the programs hold on one tree while they are timed in turns.

    Args:
      size: Bytes of the tree.
      held: Parameters and state of one program, in trees.
      programs: The programs' names, the probes aside.
    """
    torch = len(torch_steps.PROGRAMS.keys() & programs) if torch_steps.available() else 0
    others = len(set(programs) - torch_steps.PROGRAMS.keys())
    # Each program's own, and one's more while it moves; the parameters that all start from, the
    # gradient (PyTorch's each have theirs) and its copy.
    return size * (held * (others + torch + 1) + 3 + torch)


def fits(needs: int) -> bool:
    """Whether the default device has room for so many bytes."""
    return needs <= _SHARE_OF_ROOM * room()


def room() -> int:
    """Bytes that arrays may take on the default device; 2^40 where nothing tells."""
    stats = jax.devices()[0].memory_stats() or {}
    if "bytes_limit" in stats:
        return int(stats["bytes_limit"])
    try:
        found = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())
    except OSError:
        found = None
    return int(found[1]) * 1024 if found else 2**40
