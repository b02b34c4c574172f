"""A page for every method of the catalogue, from its entry, its docstring and the results."""

from __future__ import annotations

from clipax.catalogue import ENTRIES, Entry

__all__ = ["list_pages"]


def list_pages() -> dict[str, str]:
    """Return the pages by their path in `docs/`."""
    return {f"method/{name}.rst": _write_page(entry) for name, entry in ENTRIES.items()}


def _write_page(entry: Entry) -> str:
    title = f"{entry.name}\n{'=' * len(entry.name)}\n"
    return f"{title}\n.. autofunction:: clipax.{entry.name}\n"
