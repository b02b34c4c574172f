"""A task of a user's own, found by the name of its module."""

from __future__ import annotations

import importlib
import inspect
import sys
from pathlib import Path
from typing import Any

from clipax.lab._compare.tasks.task import Task
from clipax.lab._errors import InputError

__all__ = ["import_task"]


def import_task(name: str) -> Task:
    """Import a task, from the folder that the command runs in or from an installed package.

    Args:
      name: `module:attribute`; the attribute is a `Task`, or a function without arguments that
        makes one.

    Returns:
      The task.

    Raises:
      InputError: there is no such module or attribute, or it is something else. Errors inside the
        module are not caught.
    """
    module_name, _, attribute = name.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        # A missing module that the user's own imports is an error of that module.
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise
        raise InputError(
            f"task {name}: no module {module_name}; it is looked for in {here} and among the "
            f"installed packages."
        ) from None
    except (TypeError, ValueError):
        raise InputError(f"task {name!r} must be module:attribute, as in my_module:task.") from None
    if not hasattr(module, attribute):
        tasks = [known for known, value in vars(module).items() if isinstance(value, Task)]
        hint = f" It has: {', '.join(tasks)}." if tasks else ""
        raise InputError(f"task {name}: module {module_name} has no {attribute!r}.{hint}")
    found: Any = getattr(module, attribute)
    task = found
    if callable(found) and not isinstance(found, Task):
        try:
            inspect.signature(found).bind()
        except TypeError as error:
            raise InputError(f"task {name} must take no arguments: {error}.") from None
        task = found()
    if not isinstance(task, Task):
        raise InputError(
            f"task {name} must be a clipax.lab.Task, or a function that makes one, "
            f"got {type(task).__name__}."
        )
    return task
