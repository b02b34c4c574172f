"""Draws the picture of `how_it_works.md`: one gradient through a clip.

Run it with `python docs/draw_journey.py` after a change of the page's example. The numbers are
those that the clip returns.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

import clipax

__all__ = ["FILE", "draw", "main"]

FILE = Path(__file__).parent / "static" / "journey.svg"
_BLUE, _RED, _DARK = "#1f6fb4", "#c8503c", "#222222"
_THICK, _THIN = 7.0, 1.3


def _write(leaves: dict[str, Any]) -> str:
    return "   ".join(
        f"{name} = [{', '.join(f'{float(entry):g}' for entry in leaf.round(3))}]"
        for name, leaf in sorted(leaves.items())
    )


def draw() -> str:
    """Draw it, as SVG."""
    clip = clipax.clip_by_global_norm(1.0)
    grads = {"w": jnp.array([3.0, 0.0]), "b": jnp.array([4.0])}
    updates, state = clip.update(grads, clip.init(grads))
    told = {name: f"{float(value):.3g}" for name, value in clipax.metrics(state).items()}
    # As wide as a telephone's screen: nothing is scaled down there. On white, in the dark too.
    look = {"svg.hashsalt": "journey", "svg.fonttype": "path", "font.size": 9.5}
    with mpl.rc_context(look):
        figure = Figure(figsize=(4.2, 5.0), facecolor="white")
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set(xlim=(0, 42), ylim=(0, 50))
        axes.set_axis_off()
        _draw_box(axes, (6, 43), (30, 5), f"gradient   {_write(grads)}", _BLUE)
        _draw_box(axes, (13, 32), (16, 5), f"norm {told['grad_norm']}", _RED)
        factor = f"factor {told['clip_factor']}"
        _draw_box(axes, (13, 21), (16, 5), factor, _RED)
        _draw_box(axes, (6, 10), (30, 5), f"update   {_write(updates)}", _BLUE)
        _draw_box(axes, (6, 1), (30, 5), _list_records(told), _RED)
        _draw_arrow(axes, (21, 43), (21, 37), _THICK, _BLUE)
        axes.text(23.5, 40, "measure: one read", va="center", color=_DARK)
        _draw_arrow(axes, (21, 32), (21, 26), _THIN, _RED)
        axes.text(23, 29, f"decide: min(1, {told['threshold']}/norm)", va="center", color=_DARK)
        _draw_arrow(axes, (21, 21), (21, 15), _THIN, _RED)
        axes.text(23, 18, "apply: one product", va="center", color=_DARK)
        # The gradient itself passes by the numbers.
        axes.plot((8, 8), (43, 20), color=_BLUE, lw=_THICK, solid_capstyle="butt")
        _draw_arrow(axes, (8, 20), (8, 15), _THICK, _BLUE)
        axes.plot((29, 38.5, 38.5), (23.5, 23.5, 3.5), color=_RED, lw=_THIN)
        _draw_arrow(axes, (38.5, 3.5), (36, 3.5), _THIN, _RED)
        axes.text(37.7, 8, "record", ha="right", va="center", color=_DARK)
        file = io.StringIO()
        figure.savefig(file, format="svg", facecolor="white", metadata={"Date": None})
    return file.getvalue()


def _list_records(told: dict[str, str]) -> str:
    names = ("grad_norm", "threshold", "clipped_norm")
    return ", ".join(f"{name} {told[name]}" for name in names)


def _draw_box(
    axes: Any, corner: tuple[float, float], size: tuple[float, float], text: str, color: str
) -> None:
    axes.add_patch(
        FancyBboxPatch(
            corner, *size, "round,pad=0,rounding_size=1", fc="white", ec=color, lw=1.6, zorder=3
        )
    )
    middle = (corner[0] + size[0] / 2, corner[1] + size[1] / 2)
    axes.text(*middle, text, ha="center", va="center", color=_DARK, zorder=4)


def _draw_arrow(
    axes: Any, start: tuple[float, float], end: tuple[float, float], width: float, color: str
) -> None:
    head = 3 + width
    axes.add_patch(
        FancyArrowPatch(
            start,
            end,
            arrowstyle=f"-|>,head_length={head / 15:.2f},head_width={head / 22:.2f}",
            mutation_scale=12,
            lw=width,
            color=color,
            shrinkA=0,
            shrinkB=0,
            joinstyle="miter",
            zorder=2,
        )
    )


def main() -> None:
    """Write the picture."""
    FILE.write_text(draw())


if __name__ == "__main__":
    main()
