"""What tells one task from another of the same name."""

from __future__ import annotations

import hashlib
import itertools

import jax
import numpy as np

from clipax.lab._compare.tasks.task import Task
from clipax.lab._compare.train import Trainer

__all__ = ["compute_fingerprint"]

_BATCHES = 2


def compute_fingerprint(task: Task, trainer: Trainer) -> str:
    """Digest what a task's functions give for seed 0, before anything is trained.

    Args:
      task: the task.
      trainer: it.

    Returns:
      Sixteen digits, of the first batches, the batches held out, and the shapes of the model and
      its scores.
    """
    digest = hashlib.sha256()
    first = list(itertools.islice(task.batches(0), _BATCHES))
    for tree in (first, dict(task.held_out)):
        for leaf in jax.tree.leaves(tree):
            array = np.asarray(leaf)
            digest.update(f"{array.dtype}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
    digest.update(repr(trainer.functional.sizes).encode())
    digest.update(f"{trainer.untrained['test']:.4g}".encode())
    return digest.hexdigest()[:16]
