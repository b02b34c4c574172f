"""From what a user names to a task."""

from __future__ import annotations

import os

from clipax.lab._compare.tasks.data import BUILT_IN
from clipax.lab._compare.tasks.examples import make_examples_task
from clipax.lab._compare.tasks.imported import import_task
from clipax.lab._compare.tasks.models import MODELS
from clipax.lab._compare.tasks.task import Task
from clipax.lab._compare.tasks.text import make_text_task
from clipax.lab._errors import InputError

__all__ = ["BATCH_SIZES", "is_own", "make_task"]

# Of the built-in tasks, where none is given: small, so that a comparison takes minutes.
BATCH_SIZES = {"text": 8, "examples": 32}
_MOST = 100_000


def is_own(task: Task | str) -> bool:
    """Whether a task is a user's own, or the name of one in a module of theirs."""
    # A path may have a colon too.
    return isinstance(task, Task) or (":" in task and not os.path.exists(task))


def make_task(task: Task | str, model: str | None = None, batch_size: int | None = None) -> Task:
    """Make a task of what was named.

    Args:
      task: `digits`, `text`, `breast-cancer`, `wine`, the path of an `.npz` or LIBSVM file,
        `module:attribute`, or a `Task` itself.
      model: `mlp` (default) or `cnn`, for tasks of examples.
      batch_size: for built-in tasks; None for their own.

    Returns:
      The task.

    Raises:
      InputError: if there is none of that name, or an argument does not apply to it.
    """
    if batch_size is not None and not 1 <= batch_size <= _MOST:
        raise InputError(f"batch size must be from 1 to {_MOST:,}, got {batch_size}.")
    if is_own(task):
        _refuse("a task of your own", model=model, batch_size=batch_size)
        return task if isinstance(task, Task) else import_task(task)
    assert isinstance(task, str)
    if task == "text":
        _refuse("the task text", model=model)
        return make_text_task(batch_size or BATCH_SIZES["text"])
    if task not in BUILT_IN and not os.path.exists(task) and not task.endswith(".npz"):
        raise InputError(
            f"unknown task {task[:200]!r}: give {', '.join(BUILT_IN)}, text, the path of an "
            f".npz or LIBSVM file, or module:task of your own."
        )
    return make_examples_task(task, model or MODELS[0], batch_size or BATCH_SIZES["examples"])


def _refuse(task: str, **arguments: object) -> None:
    given = [name for name, value in arguments.items() if value is not None]
    if given:
        options = ", ".join(name.replace("_", " ") for name in given)
        raise InputError(f"{options} does not apply to {task}: its functions decide.")
