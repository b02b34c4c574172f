"""The site builds without a warning, says of every public name what it is, and its links hold.

It needs the extra `docs`: `python -m pytest -m "" tests/docs/test_site.py -n 0`.
"""

from __future__ import annotations

import html
import json
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

from fontTools.ttLib import TTFont
from sphinx.cmd.build import build_main
from sphinx.util.inventory import InventoryFile

from docs.builder import elsewhere, formulas, mathml, names, navigation

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
    shown = {Path(image).name for image in page.loaded}
    assert {f"{name}-response.svg", f"{name}-run.svg"} <= shown
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
    ("question", "answer"),
    [
        (
            "which clip for a transformer with AdamW?",
            "clipax.clip_by_global_norm(1.0), optax.adamw",
        ),
        ("how do I log the clip fraction to TensorBoard?", "def log_to_tensorboard"),
        ("can I clip only the head?", "scope=scopes.exclude("),
        ("what happens on a NaN?", "a NaN or an infinity gives a zero update"),
        ("and under FSDP?", "there is nothing to do"),
    ],
)
def test_a_question_is_answered_one_click_from_the_first_page(
    site: dict[str, Links], question: str, answer: str
) -> None:
    text = html.unescape((SITE / "index.html").read_text())
    links = re.findall(r'<a [^>]*href="([^"#]*)#([^"]*)"[^>]*>(.*?)</a>', text, re.DOTALL)
    asked = {" ".join(_strip(words).split()): (page, anchor) for page, anchor, words in links}
    page, anchor = asked[question]
    assert anchor in site[page].anchors
    shown = html.unescape((SITE / page).read_text()).partition(f'id="{anchor}"')[2]
    # To the next heading of the page: the answer needs no reading on.
    shown = re.split(r"<h[12]>", shown, maxsplit=2)[1]
    assert answer in " ".join(_strip(shown).split())


def _strip(shown: str) -> str:
    """Leave out the tags of a page."""
    return re.sub(r"<[^>]*>", "", shown)


def run_browser(path: str) -> str:
    """What a page of the site has become in a browser."""
    browser = shutil.which("chromium")
    if browser is None:
        pytest.skip("needs Chromium")
    quiet = type("Quiet", (SimpleHTTPRequestHandler,), {"log_message": lambda *ignored: None})
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(quiet, directory=SITE)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/{path}"
        options = ["--headless", "--no-sandbox", "--virtual-time-budget=60000", "--dump-dom"]
        shown = subprocess.run([browser, *options, address], capture_output=True, text=True)
        server.shutdown()
    assert shown.stdout, shown.stderr[-2000:]
    return shown.stdout


@pytest.mark.parametrize(
    ("words", "page"), [("zclip", "clip_by_zscore"), ("agc", "clip_by_param_norm")]
)
def test_a_search_by_a_usual_name_shows_the_method_first(
    site: dict[str, Links], words: str, page: str
) -> None:
    shown = run_browser(f"search.html?q={words}")
    found = re.search(r'<ul[^>]* class="search".*?<a href="([^"]*)"', shown, re.DOTALL)
    assert found
    assert f"method/{page}.html" in found[1]


# Shows each page in a frame, and writes the widths of those that are wider than the frame.
MEASURE = """<iframe style="width: %dpx; height: 900px"></iframe><pre></pre><script>
const frame = document.querySelector("iframe"), wide = [];
async function measure() {
  for (const page of %s) {
    await new Promise(shown => { frame.onload = shown; frame.src = page; });
    const root = frame.contentDocument.documentElement;
    if (root.scrollWidth > root.clientWidth) wide.push([page, root.scrollWidth]);
  }
  document.querySelector("pre").textContent = "wide: " + JSON.stringify(wide);
}
measure();
</script>"""


@pytest.mark.parametrize("width", [400, 1280])
def test_only_tables_and_code_scroll_sideways(site: dict[str, Links], width: int) -> None:
    pages = [page for page in site if not page.startswith(("api/", "_modules/"))]
    assert len(pages) > 80
    (SITE / "measure.html").write_text(MEASURE % (width, json.dumps(pages)))
    shown = run_browser("measure.html")
    (SITE / "measure.html").unlink()
    assert "<pre>wide: []</pre>" in shown


def test_the_font_of_formulas_has_their_signs(site: dict[str, Links]) -> None:
    font = TTFont(ROOT / "docs" / "static" / "math.woff")
    assert "MATH" in font  # how far an index is lowered
    formulas = [
        formula
        for page in site
        for formula in re.findall(r"<math.*?</math>", (SITE / page).read_text(), re.DOTALL)
    ]
    signs = set(html.unescape("".join(map(_strip, formulas))))
    assert len(signs) > 60
    missing = {sign for sign in signs if not sign.isspace()} - set(map(chr, font.getBestCmap()))
    assert missing <= set("\u2061\u02c9")  # nothing to be seen; a bar, as any font has it


def test_names_of_other_libraries_lead_to_their_pages() -> None:
    code = "".join(path.read_text() for path in (ROOT / "clipax").rglob("*.py"))
    named = set(re.findall(r"`((?:jax|optax|nnx|numpy)\.[A-Za-z_.]+)`", code))
    assert len(named) > 20
    assert not {name for name in named if elsewhere.find_address(name) is None}
    assert elsewhere.find_address("scipy.stats") is None


@pytest.mark.parametrize(
    ("text", "latex"),
    [
        (
            "u = min(1, c/n) g,  n = ||g||",
            r"u = \min \left( 1 , \frac{c}{n} \right) g , \quad n = \|g\|",
        ),
        (
            "x_{t+1} = x_t - eta_t/(||g_t|| + tau) g_t",
            r"x_{t + 1} = x_{t} - \frac{\eta _{t}}{\|g_{t}\| + \tau} g_{t}",
        ),
        ("n*_t = n_t  if z_t <= z", r"n^*_{t} = n_{t} \quad \text{ if } z_{t} \le z"),
        ("v = argmin_{||v|| <= 1} <m, v>", r"v = \arg\min _{\|v\| \le 1} \langle m , v \rangle"),
        ("F(c)^2/mean(n^2)", r"\frac{F(c)^{2}}{\mathrm{mean}(n^{2})}"),
        ("k < N, j > 1", r"k < N , j > 1"),
        ("(1 - b)^2 ||g||_p", r"{(1 - b)}^{2} {\|g\|}_{p}"),
    ],
)
def test_displayed_formulas_are_read_as_they_are_meant(text: str, latex: str) -> None:
    assert formulas.to_latex(text, displayed=True) == latex


@pytest.mark.parametrize(
    ("text", "latex"),
    [
        ("c/2", "c/2"),
        ("ghat_t", r"\hat{g}_{t}"),
        ("sigma T^(1/p)", r"\sigma T^{1/p}"),
        ("b_{-1}", "b_{ - 1}"),
        ("threshold", None),
        ("norms.clip(c)", None),
        ('"hard"', None),
        ("1e-3", None),
        ("b1", None),
        ("x", None),
        ("1", None),
    ],
)
def test_a_formula_in_a_sentence_is_told_from_code(text: str, latex: str | None) -> None:
    assert formulas.to_latex(text, names={"x"}) == latex


def test_formulas_of_a_docstring_are_marked() -> None:
    lines = [
        "Clip at `c`.",
        "",
        "    u = c g,",
        "        where n > c",
        "    n = 1",
        "",
        "With `g`:",
    ]
    formulas.mark_formulas(None, "function", "f", lambda g: None, None, lines)
    assert lines == [
        "Clip at :math:`c`.",
        "",
        r".. math:: u = c g , \text{ where } n > c \\ n = 1",
        "",
        "With `g`:",
    ]


def test_an_index_stands_beside_a_letter_with_an_accent() -> None:
    assert mathml.translate(r"\hat b_1 \tilde{g}_t \hat x") == r"\hat b{}_1 \tilde{g}{}_t \hat x"
