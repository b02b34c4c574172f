"""Writes the signatures of all public factories to `signatures.txt`, as a test compares them.

`python -m tests.contract.signatures` rewrites the file. A line that changes there is a change that
users notice: the diff of the file is where it is reviewed.
"""

from __future__ import annotations

import inspect
from pathlib import Path

from clipax.catalogue import ENTRIES

__all__ = ["FILE", "render"]

FILE = Path(__file__).with_name("signatures.txt")


def render() -> str:
    """Return one line a factory, sorted by kind and name, without annotations."""
    ordered = sorted(ENTRIES.values(), key=lambda entry: (entry.kind, entry.name))
    return "".join(f"{entry.kind} {entry.name}{_plain(entry.factory)}\n" for entry in ordered)


def _plain(factory: object) -> str:
    """Return the arguments with their defaults, as the interpreter prints them."""
    signature = inspect.signature(factory)  # type: ignore[arg-type]
    bare = [
        argument.replace(annotation=inspect.Parameter.empty)
        for argument in signature.parameters.values()
    ]
    return str(inspect.Signature(bare))


if __name__ == "__main__":
    FILE.write_text(render())
