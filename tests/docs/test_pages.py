"""README.md and the pages in docs/: their code runs, their links and their tables hold."""

from __future__ import annotations

import contextlib
import io
import re
import tomllib
from pathlib import Path

import pytest

from docs import draw_journey, write_tables
from tests.docs.blocks import FENCE, NEEDS, NOT_RUN, ROOT, python_blocks

README, CONTRIBUTING = ROOT / "README.md", ROOT / "CONTRIBUTING.md"
PAGES = [README, CONTRIBUTING, *sorted((ROOT / "docs").glob("*.md"))]


def name_of(page: Path) -> str:
    """The page's path in the repository."""
    return page.relative_to(ROOT).as_posix()


def anchors(text: str) -> set[str]:
    """The anchors that GitHub gives to the headings."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", text), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", one.lower()).replace(" ", "-") for one in headings}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_the_code_runs_and_prints_what_it_says(page: Path) -> None:
    names: dict[str, object] = {}  # each block builds on those before it on the same page
    for above, block in python_blocks(page.read_text()):
        if block.startswith(NOT_RUN):
            assert block.splitlines()[0].removeprefix(NOT_RUN)
            continue
        if block.startswith(NEEDS):
            assert page.name in ("frameworks.md", "recipes.md")
            continue
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            # Errors name the page's own lines.
            exec(compile("\n" * above + block, str(page), "exec"), names)
        promised = [line[2:] for line in block.splitlines() if line.startswith("# ")]
        assert printed.getvalue().splitlines() == promised


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_all_code_is_marked_with_its_language(page: Path) -> None:
    languages = {language for _, language, _ in FENCE.findall(page.read_text())}
    assert languages <= {"python", "console", "text"}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", page.read_text())):
        if target.startswith(("https://", "http://")):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and anchor not in anchors(file.read_text())):
            broken.append(target)
    assert not broken


def test_every_page_is_listed() -> None:
    listed = set(re.findall(r"\]\(([^)#\s]+)\)", (ROOT / "docs" / "index.md").read_text()))
    for page in PAGES:
        if page.parent.name == "docs" and page.name != "index.md":
            assert page.name in listed


@pytest.mark.parametrize(
    ("page", "name", "content"), write_tables.tables(), ids=lambda value: value[:12]
)
def test_the_tables_are_the_catalogue_and_the_results(page: str, name: str, content: str) -> None:
    text = (ROOT / page).read_text()
    assert text == write_tables.replace(text, name, content), "run `python docs/write_tables.py`"


def test_the_picture_of_a_gradients_way_shows_what_the_clip_returns() -> None:
    # Another release of matplotlib draws the same letters with other curves.
    kept, drawn = (
        re.findall(r"<!-- (.*) -->", svg)
        for svg in (draw_journey.FILE.read_text(), draw_journey.draw())
    )
    assert kept == drawn, "run `python docs/draw_journey.py`"
    assert "norm 5" in drawn
    assert "static/journey.svg" in (ROOT / "docs" / "how_it_works.md").read_text()


def test_the_citation_names_the_version_and_the_licence() -> None:
    about = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    citation, page = (ROOT / "CITATION.cff").read_text(), (ROOT / "docs" / "cite.md").read_text()
    for key, value in {"version": about["version"], "license": about["license"]}.items():
        assert f"\n{key}: {value}\n" in citation
        assert f"  {key} = {{{value}}},\n" in page
    author = about["authors"][0]["name"]
    assert f"  - name: {author}\n" in citation
    assert f"  author = {{{{{author}}}}},\n" in page


def test_the_first_page_is_short_and_quotes_the_page_of_speed() -> None:
    lines = README.read_text().splitlines()
    assert len(lines) <= 150
    quoted = rows_of_speed(README)
    assert len(quoted) == 4
    assert quoted <= rows_of_speed(ROOT / "docs" / "speed.md")


def rows_of_speed(page: Path) -> set[tuple[str, ...]]:
    """The cells of the rows that tell what a step with a clip costs."""
    lines = (line for line in page.read_text().splitlines() if line.startswith("| clip"))
    return {tuple(cell.strip() for cell in line.split("|")) for line in lines}
