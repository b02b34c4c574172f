"""Draws what `benchmarks.per_example` measured."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import per_example_forms as forms

__all__ = ["draw"]


def draw(records: Sequence[Mapping[str, Any]], path: Path, device: str) -> None:
    """Time and temporaries of every form against the batch's size, a column a model.

    Says so where it cannot.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        print("No picture: matplotlib is not installed.", file=sys.stderr)
        return
    models = list(dict.fromkeys(one["model"] for one in records))
    figure = Figure(figsize=(5.2 * len(models), 7), layout="constrained")
    panels = figure.subplots(2, len(models), squeeze=False)
    names = [name for name in dict.fromkeys(one["form"] for one in records) if name != forms.AGAIN]
    for column, model in enumerate(models):
        for row, (field, label) in enumerate(
            [("milliseconds", "a step, ms"), ("temporaries", "temporaries / parameters")]
        ):
            axes = panels[row, column]
            for place, name in enumerate(names):
                own = [
                    one
                    for one in records
                    if (one["model"], one["form"]) == (model, name) and one[field] is not None
                ]
                axes.plot(
                    [one["size"] for one in own],
                    [one[field] for one in own],
                    marker="osD^vP"[place % 6],
                    label=name if own else None,
                    color=f"C{place}",
                )
            axes.set(xscale="log", yscale="log", xlabel="examples in a batch", ylabel=label)
            sizes = sorted({one["size"] for one in records if one["model"] == model})
            axes.set_xticks(sizes, [str(size) for size in sizes])
            axes.minorticks_off()
            axes.grid(alpha=0.3)
        panels[0, column].set_title(model)
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    figure.suptitle(f"Clipping every example ({device})")
    figure.savefig(path, dpi=110)
