"""Writes what the pages say of the catalogue, and of the comparisons that are kept.

Run it with `python docs/write_tables.py` after a change of the catalogue, or a new `clipax compare
--out benchmarks/results/compare/digits` (`--task text` for `text`).
"""

from __future__ import annotations

import re
from pathlib import Path

import jax
import jax.numpy as jnp

import clipax
from clipax import catalogue

__all__ = ["ROOT", "compared", "main", "replace", "tables"]

ROOT = Path(__file__).parents[1]


def compared(task: str) -> str:
    """The table of a comparison that is kept, and what it says."""
    summary = (ROOT / "benchmarks" / "results" / "compare" / task / "summary.md").read_text()
    _, table, *said = summary.split("\n\n")
    words = [text.strip() for text in said[: said.index(next(filter(_explains, said)))]]
    quoted = "\n>\n".join(f"> {line}" for text in words for line in text.splitlines() if line)
    return f"{table.strip()}\n\n{quoted}"


def _explains(paragraph: str) -> bool:
    return paragraph.strip().startswith("`loss` is")


_LOGGED = {
    "grad_norm": "norm of the last finite step, before the clip",
    "threshold": "what it was compared with",
    "clip_factor": "what the gradient was multiplied by; of several blocks the smallest",
    "clipped_norm": "norm after the clip",
    "clip_fraction": "clipped steps over finite steps",
    "recent_clip_fraction": "the same of about the last 100 steps",
    "nonfinite_count": "steps with a NaN or an infinity",
    "consecutive_nonfinite": "those in a row, up to now",
    "is_finite": "whether the last step was finite",
    "skipped_count": "steps that were left out",
    "consecutive_skips": "those in a row, up to now",
    "spike_count": "of the skipped steps the spikes",
}


def _find_keys(entry: catalogue.Entry) -> set[str]:
    """Return what `clipax.metrics` finds in the state of a method."""
    method = entry.factory(**entry.example)
    if entry.kind == "threshold":
        method = clipax.clip_by_global_norm(method)
    elif entry.kind == "norm":
        method = clipax.scale_by_norm(method)
    state = jax.eval_shape(method.init, {"kernel": jnp.ones((2, 3))})
    try:
        return set(jax.eval_shape(lambda state: clipax.metrics(state, top=0), state))
    except ValueError:  # it measures no norm
        return set()


def logged() -> str:
    """The table of what `clipax.metrics` finds, and in which methods.

    Raises:
      ValueError: A method logs something of which the table does not know what it is.
    """
    keys = {name: _find_keys(entry) for name, entry in catalogue.ENTRIES.items()}
    if unknown := set().union(*keys.values()) - set(_LOGGED):
        raise ValueError(f"the table of the telemetry does not explain {sorted(unknown)}")
    nothing = [name for name, found in keys.items() if not found]
    lines = ["| name | what it is | logged by |", "| --- | --- | --- |"]
    for key, meaning in _LOGGED.items():
        have = [name for name, found in keys.items() if key in found]
        lack = [name for name, found in keys.items() if found and key not in found]
        names = _join(have) if len(have) < len(lack) else f"all but {_join(lack)}"
        lines.append(f"| `{key}` | {meaning} | {names if lack else 'all'} |")
    return "\n".join([*lines, "", f"*All*: but {_join(nothing)}, which measure no norm."])


def _join(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def tables() -> list[tuple[str, str, str]]:
    """The page, the name of the markers, and what stands between them."""
    return [
        ("docs/methods.md", "methods", catalogue.markdown_table()),
        ("docs/telemetry.md", "telemetry", logged()),
        ("docs/compare.md", "digits", compared("digits")),
        ("docs/compare.md", "text", compared("text")),
    ]


def replace(text: str, name: str, content: str) -> str:
    """The text with `content` between the markers `name`.

    Raises:
      ValueError: The markers are not there exactly once.
    """
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    if text.count(begin) != 1 or text.count(end) != 1:
        raise ValueError(f"the page must have {begin} and {end} once each")
    pattern = f"{re.escape(begin)}.*{re.escape(end)}"
    return re.sub(pattern, lambda _: f"{begin}\n{content}\n{end}", text, flags=re.DOTALL)


def main() -> None:
    """Writes the tables into their pages."""
    for page, name, content in tables():
        path = ROOT / page
        path.write_text(replace(path.read_text(), name, content))


if __name__ == "__main__":
    main()
