"""The site builds without a warning, says of every public name what it is, and its links hold.

It needs the extra `docs`: `python -m pytest -m "" tests/docs/test_site.py -n 0`.
"""

from __future__ import annotations

import os
import posixpath
import re
import shutil
import subprocess
import threading
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import clipax
from clipax._twins import TWINS
from clipax.catalogue import ENTRIES, PAPERS

pytest.importorskip("sphinx", reason="needs the extra `docs`")
pytest.importorskip("myst_nb", reason="needs the extra `docs`")

from sphinx.cmd.build import build_main
from sphinx.util.inventory import InventoryFile

from docs.builder import elsewhere, mathml, names, navigation

ROOT = Path(__file__).parents[2]
SITE = ROOT / "site"

pytestmark = [
    pytest.mark.thorough,
    pytest.mark.skipif("PYTEST_XDIST_WORKER" in os.environ, reason="one build at a time: -n 0"),
]


class Links(HTMLParser):
    """The links of a page, and what they may lead to."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.loaded: set[str] = set()
        self.anchors: set[str] = set()
        self.feed(page.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value for name, value in attrs if value}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.links.add(given["href"])
        if tag in ("img", "script", "iframe") and "src" in given:
            self.loaded.add(given["src"])
        if tag == "link" and given.get("rel") in ("stylesheet", "icon"):
            self.loaded.add(given["href"])


@pytest.fixture(scope="module")
def site() -> dict[str, Links]:
    """All pages by their path. All are written: else a search would know new ones only."""
    for old in SITE.rglob("*.html"):  # a page of a name that is gone would stay
        old.unlink()
    assert build_main(["-q", "-W", "--keep-going", "-a", str(ROOT / "docs"), str(SITE)]) == 0
    return {path.relative_to(SITE).as_posix(): Links(path) for path in SITE.rglob("*.html")}


def test_every_public_name_is_on_a_page(site: dict[str, Links]) -> None:
    described = InventoryFile.loads((SITE / "objects.inv").read_bytes(), uri="").data
    known = {name for kind, some in described.items() if kind.startswith("py:") for name in some}
    for name in names.list_names():
        assert name.home in known, name
        assert name.home in site[f"{name.page}.html"].anchors, name
    assert {name.name for name in names.list_names() if name.module == "clipax"} >= {
        name for name in dir(clipax) if name.startswith(("clip_", "scale_", "skip_"))
    }


@pytest.mark.parametrize("name", ENTRIES)
def test_every_method_has_a_page_with_all_parts(site: dict[str, Links], name: str) -> None:
    page = site[f"method/{name}.html"]
    assert {"what-it-does-to-norms", "what-it-costs", "after-bad-gradients"} <= page.anchors
    assert any(image.endswith(f"{name}.svg") for image in page.loaded)
    numbers = {PAPERS[key].arxiv for key in ENTRIES[name].papers} - {None}
    assert {f"https://arxiv.org/abs/{number}" for number in numbers} <= page.links
    text = (SITE / "method" / f"{name}.html").read_text()
    assert "GPU (H200)" in text
    assert "TPU (v5e)" in text
    assert all(usual in text for usual, twin in TWINS.items() if twin == name)


def test_every_link_inside_the_site_resolves(site: dict[str, Links]) -> None:
    broken = []
    for path, page in site.items():
        for link in page.links | page.loaded:
            parts = urlsplit(link)
            if parts.scheme in ("http", "https", "data", "mailto"):
                continue
            beside = posixpath.join(posixpath.dirname(path), unquote(parts.path))
            target = posixpath.normpath(beside) if parts.path else path
            anchors = site[target].anchors if target in site else {""}
            if not (SITE / target).exists() or unquote(parts.fragment) not in anchors | {""}:
                broken.append((path, link))
    assert not broken


def test_no_page_loads_anything_from_elsewhere(site: dict[str, Links]) -> None:
    loaded = {(path, one) for path, page in site.items() for one in page.loaded}
    assert not {one for one in loaded if urlsplit(one[1]).netloc}


def test_every_page_of_the_folder_is_in_the_contents() -> None:
    listed = {page for chapter in navigation.list_chapters().values() for page in chapter}
    pages = {path.stem for path in (ROOT / "docs").glob("*.md")} - {"index"}
    notebooks = {f"notebooks/{path.stem}" for path in (ROOT / "notebooks").glob("*.ipynb")}
    made = {"project/start", "project/contributing", "project/changelog"}
    assert listed == pages | notebooks | made


@pytest.mark.parametrize(
    ("words", "page"), [("zclip", "clip_by_zscore"), ("agc", "clip_by_param_norm")]
)
def test_a_search_by_a_usual_name_shows_the_method_first(
    site: dict[str, Links], words: str, page: str
) -> None:
    browser = shutil.which("chromium")
    if browser is None:
        pytest.skip("needs Chromium")
    quiet = type("Quiet", (SimpleHTTPRequestHandler,), {"log_message": lambda *ignored: None})
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(quiet, directory=SITE)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/search.html?q={words}"
        options = ["--headless", "--no-sandbox", "--virtual-time-budget=20000", "--dump-dom"]
        shown = subprocess.run([browser, *options, address], capture_output=True, text=True)
        server.shutdown()
    found = re.search(r'<ul[^>]* class="search".*?<a href="([^"]*)"', shown.stdout, re.DOTALL)
    assert found, shown.stderr[-2000:]
    assert f"method/{page}.html" in found[1]


def test_names_of_other_libraries_lead_to_their_pages() -> None:
    code = "".join(path.read_text() for path in (ROOT / "clipax").rglob("*.py"))
    named = set(re.findall(r"`((?:jax|optax|nnx|numpy)\.[A-Za-z_.]+)`", code))
    assert len(named) > 20
    assert not {name for name in named if elsewhere.find_address(name) is None}
    assert elsewhere.find_address("scipy.stats") is None


@pytest.mark.parametrize(
    ("formula", "written"),
    [
        (r"\Big(x\Big)", r"\Bigl(x\Bigr)"),
        (r"\hat b_1 \tilde{g}_t \hat x", r"\hat b{}_1 \tilde{g}{}_t \hat x"),
        (r"a \iff b, \dots", r"a \Longleftrightarrow b, \ldots"),
    ],
)
def test_formulas_are_written_as_docutils_reads_them(formula: str, written: str) -> None:
    assert mathml.translate(formula) == written
