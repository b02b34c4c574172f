"""A page for every method of the catalogue, from its entry, its docstring and the results."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from clipax._twins import list_usual_names
from clipax.catalogue import ENTRIES, PAPERS, Entry
from docs.builder import pictures, tables
from docs.builder.files import DOCS, ROOT
from docs.builder.names import write_usual_names

__all__ = ["list_pages"]

_KINDS = {
    "threshold": "A threshold: it stands wherever a method takes one.",
    "norm": "A rule on norms: `clipax.scale_by_norm` makes a transformation of it.",
    "transformation": "A gradient transformation: a link of an `optax.chain`.",
    "optimizer": "An optimizer.",
}


def list_pages() -> dict[str, str]:
    """Return the pages and pictures by their path in `docs/`."""
    pages = {}
    for name, entry in ENTRIES.items():
        pages[f"method/{name}.rst"] = _write_page(entry)
        pages |= {f"method/{file}": svg for file, svg in _draw(entry).items()}
    return pages


@cache
def _find_last_change() -> float:
    code = [*(ROOT / "clipax").rglob("*.py"), Path(pictures.__file__)]
    return max(file.stat().st_mtime for file in code)


def _draw(entry: Entry) -> dict[str, str]:
    """Draw the pictures, or read those of a former build where no code has changed since."""
    files = [DOCS / "method" / f"{entry.name}-{shown}.svg" for shown in ("response", "run")]
    if any(not file.exists() or file.stat().st_mtime < _find_last_change() for file in files):
        files[0].parent.mkdir(exist_ok=True)
        for file, svg in zip(files, pictures.draw(entry).values(), strict=True):
            file.write_text(svg)
    return {file.name: file.read_text() for file in files}


def _write_page(entry: Entry) -> str:
    # A search shows pages with a main entry first.
    parts = [f".. index:: ! {name}" for name in list_usual_names(entry.name)]
    parts += [_head(entry.name, "="), _write_summary(entry)]
    parts += [f".. autofunction:: clipax.{entry.name}"]
    parts += [_head("What it does to norms", "-"), _write_picture(entry)]
    parts += [_head("What it costs", "-"), _write_costs(entry)]
    parts += [_head("After bad gradients", "-"), _write_faults(entry)]
    if entry.papers:
        parts += [_head("Papers", "-"), _write_papers(entry)]
    return "\n\n".join([*parts, ""])


def _head(title: str, line: str) -> str:
    return f"{title}\n{line * len(title)}"


def _write_summary(entry: Entry) -> str:
    fields = [f":In one line: ``{entry.formula}``"]
    if usual := write_usual_names(entry.name):
        fields.append(usual)
    return "\n\n".join([_KINDS[entry.kind], "\n".join(fields)])


def _write_picture(entry: Entry) -> str:
    given = ", ".join(f"{name}={_write_value(value)}" for name, value in entry.example.items())
    lifts = {"threshold": " in `clipax.clip_by_global_norm`", "norm": " in `clipax.scale_by_norm`"}
    return f"""With ``{entry.name}({given})``{lifts.get(entry.kind, "")}, on a matrix and a vector
whose gradient keeps its direction and has the norms of a real run ({pictures.RUN}; :doc:`logs
</real_norms>`), the median of its later stretch set to 1. Where there are several blocks, the
threshold is that of the block with the largest norm.

.. image:: {entry.name}-response.svg
   :alt: Norm of the update against the norm of the gradient
   :class: method-picture

.. image:: {entry.name}-run.svg
   :alt: Norms of the gradient and of the update over the run
   :class: method-picture"""


def _write_value(value: object) -> str:
    return getattr(value, "__name__", None) or ("..." if "<" in repr(value) else repr(value))


def _write_costs(entry: Entry) -> str:
    peer = tables.name_peer(entry.name)
    beside = f" *Optax's* is the nearest step with optax alone: ``{peer}``." if peer else ""
    return f"""One step, an optimizer by itself, all else followed by SGD: memory traffic and
temporaries in units of the parameters' size P.{beside} On GPU and TPU these are counts of compiled
programs; :doc:`speed </speed>` has the versions, and how each is measured.

{tables.list_costs(entry.name)}"""


def _write_faults(entry: Entry) -> str:
    why = "\n".join(f"- {fault}: {_write_reason(text)}" for fault, text in entry.lasting.items())
    lasting = f"What lasts by the formula:\n\n{why}" if why else ""
    return f"""*Recovers*: equal to a run without the fault within 20 steps; *n steps*: after more;
*dies*: not within 200, with a star where only the clipping is lost. Three words are for a fault in
the first step, early and late in the run (:doc:`how it is tested </faults>`).

{tables.list_faults(entry.name)}
{lasting}"""


def _write_reason(text: str) -> str:
    """Write a text in which code stands between single marks, as in Markdown."""
    return text.replace("`", "``")


def _write_papers(entry: Entry) -> str:
    lines = []
    for paper in (PAPERS[key] for key in entry.papers):
        link = f"https://arxiv.org/abs/{paper.arxiv}"
        number = f", `arXiv {paper.arxiv} <{link}>`__" if paper.arxiv else ""
        lines.append(f"- {paper.authors} {paper.year}, *{paper.title}*{number}.")
    return "\n".join(lines)
