"""Reference runs of our own: small models whose gradients can be looked at."""

from benchmarks.runs.digits import make_digits
from benchmarks.runs.task import Task, train
from benchmarks.runs.text import make_text

__all__ = ["TASKS", "Task", "make_digits", "make_text", "train"]

TASKS = {"text": make_text, "digits": make_digits}
"""Makes each task of a batch size."""
