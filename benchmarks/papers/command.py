"""Measures what the papers report, and says whether their figures hold.

Run it with `python -m benchmarks.papers all`; the benchmarks' README.md says more.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import jax
from rich.console import Console

from benchmarks.measure import environment
from benchmarks.papers import PAPERS
from benchmarks.papers.report import Result, markdown, table, verdict

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the papers' modules.

    Args:
      arguments: Command line; by default the process's own.

    Returns:
      The exit status: 0, or 1 where a figure does not hold. Bad arguments exit with 2.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    for path in (options.json, options.markdown):
        if path is None:
            continue
        try:  # now, not after the measurements
            path.open("a").close()
        except OSError as error:
            parser.error(f"cannot write {path}: {error.strerror}")
    names = list(PAPERS) if "all" in options.papers else list(dict.fromkeys(options.papers))
    console = Console()
    results = []
    # Loops of millions of tiny steps: an accelerator would spend them on starting kernels.
    with jax.default_device(jax.devices("cpu")[0]):
        settings = environment() | {
            "device": "cpu",
            "date": datetime.now(UTC).strftime("%Y-%m-%d"),
            "size": "quick" if options.quick else "full",
            "seed": str(options.seed),
        }
        for name in names:
            start = time.monotonic()
            claims = PAPERS[name].claims(options.quick, options.seed)
            results.append(Result(name, PAPERS[name].title, time.monotonic() - start, claims))
            console.print(table(results[-1]))
    console.print(verdict(results), highlight=False, soft_wrap=True)
    if options.markdown is not None:
        options.markdown.write_text(markdown(results, settings))
    if options.json is not None:
        content = {"settings": settings, "papers": [asdict(result) for result in results]}
        options.json.write_text(json.dumps(content, indent=1) + "\n")
    return 0 if all(claim.holds for result in results for claim in result.claims) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.papers", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument(
        "papers",
        nargs="+",
        choices=[*PAPERS, "all"],
        metavar="NAME",
        help=f"one or more of {', '.join(PAPERS)}, or all",
    )
    parser.add_argument(
        "--quick", action="store_true", help="in seconds: fewer seeds, wider tolerances"
    )
    parser.add_argument("--seed", type=_seed, default=0, help="of all that is random (default 0)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables")
    return parser


def _seed(text: str) -> int:
    if not (text.isdecimal() and int(text) < 2**32):
        raise argparse.ArgumentTypeError(f"must be a whole number below 2^32, got {text!r}")
    return int(text)
