"""Measures what the papers report, and says whether their figures hold.

Run it with `python -m benchmarks.papers all`; the benchmarks' README.md says more.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

import jax
from rich.console import Console

from benchmarks.harness.compile import environment
from benchmarks.papers import PAPERS
from benchmarks.papers.files import read, write
from benchmarks.papers.paper import Options, Result, measure
from benchmarks.papers.report import markdown, table, verdict

__all__ = ["main", "write_report"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the papers' modules.

    A paper's files are written as soon as it is measured, and the tables anew from all the files
    in the folder.

    Args:
      arguments: Command line; by default the process's own.

    Returns:
      The exit status: 0, or 1 where a figure is missed or a paper raises. Bad arguments exit
      with 2.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    tables = options.markdown or options.out / "papers.md"
    try:  # now, not after the measurements
        options.out.mkdir(parents=True, exist_ok=True)
        for path in (options.out / ".writable", tables):
            path.open("a").close()
        (options.out / ".writable").unlink()
        read(options.out, ())
    except OSError as error:
        parser.error(f"cannot write {error.filename}: {error.strerror}")
    except ValueError as error:
        parser.error(str(error))
    names = list(PAPERS) if "all" in options.papers else list(dict.fromkeys(options.papers))
    settings = environment() | {
        "device": "cpu",
        "size": "quick" if options.quick else "full",
        "seed": str(options.seed),
    }
    console = Console()
    results: list[Result] = []
    # Loops of millions of tiny steps: an accelerator would spend them on starting kernels.
    with jax.default_device(jax.devices("cpu")[0]):
        for name in names:
            runs = options.out / f"{name}_runs"
            chosen = Options(options.quick, options.seed, options.data_dir, runs)
            result = measure(name, PAPERS[name], chosen, settings)
            console.print(table(result))
            results.append(write(result, options.out))
            tables.write_text(write_report(options.out, tables.parent))
    console.print(verdict(results), highlight=False, soft_wrap=True)
    return 0 if all(result.passes for result in results) else 1


def write_report(folder: Path, beside: Path) -> str:
    """Writes the tables of all papers in a folder.

    Args:
      folder: Where the papers' files are.
      beside: The folder of the report, from which it links to the pictures.

    Returns:
      Markdown.
    """
    links = Path(os.path.relpath(folder, beside))
    pictures = {path.stem: (links / path.name).as_posix() for path in folder.glob("*.png")}
    return markdown(read(folder, list(PAPERS)), pictures)


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
    parser.add_argument(
        "--data-dir",
        type=_folder,
        metavar="DIR",
        help="data sets that are not built in, for the parts that need them",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("papers-results"),
        metavar="DIR",
        help="where NAME.json and NAME.png go (default %(default)s)",
    )
    parser.add_argument(
        "--markdown",
        type=Path,
        metavar="FILE",
        help="the tables of all papers in that folder (default papers.md there)",
    )
    return parser


def _seed(text: str) -> int:
    if not (text.isdecimal() and int(text) < 2**32):
        raise argparse.ArgumentTypeError(f"must be a whole number below 2^32, got {text!r}")
    return int(text)


def _folder(text: str) -> Path:
    if not Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"must be a folder that exists, got {text!r}")
    return Path(text)
