"""Every notebook runs from top to bottom; each ends with an assertion of what it shows."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.thorough import thorough

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))
# In quick mode these compile for longer than they run: they do with less of it, in .6 to .7 of the
# time.
COMPILING = ("01_quickstart", "02_choose_a_clip", "05_train_a_transformer")


def test_there_are_all_notebooks():
    assert [path.stem[:2] for path in NOTEBOOKS] == ["01", "02", "03", "04", "05"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_first_cell_says_what_is_missing_and_installs_from_the_address_given(path, monkeypatch):
    notebook = nbformat.read(path, as_version=4)
    cell = next(cell.source for cell in notebook.cells if cell.cell_type == "code")
    installed = []
    code = re.sub(r"%pip (.*)", r"install(rf'\1')", cell)  # IPython fills in the braces as well
    names = {"install": installed.append}
    exec(code, names)
    assert installed == []
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match="clipax is not installed here: set URL, or see"):
        exec(code, names)
    exec(code.replace('URL = ""', 'URL = "https://host/clipax"'), names)
    assert "clipax[lab] @ git+https://host/clipax" in installed[0]


# The kernel speaks over TCP on this machine and warns about it; nothing of that is ours.
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("path", thorough(NOTEBOOKS, NOTEBOOKS[:1]), ids=lambda path: path.stem)
def test_a_notebook_runs_and_is_kept_with_its_figures(path, monkeypatch, request):
    monkeypatch.setenv("CLIPAX_QUICK", "1")
    if path.stem in COMPILING:
        monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    figures = [output for cell in code for output in cell.outputs if "data" in output]
    assert any("image/png" in output.data for output in figures)
    assert path.stat().st_size < 1_000_000
    # Only the first cell installs, and only where it must.
    assert 'if importlib.util.find_spec("clipax") is None:' in code[0].source
    assert not any("%pip" in cell.source for cell in code[1:])
    assert "assert " in code[-1].source
    said = _said(notebook)
    assert said
    assert not re.search(r"/(home|root|tmp|work|Users)/", said)
    NotebookClient(notebook, timeout=300, kernel_name="python3").execute(cwd=str(path.parent))
    if "error" in (request.config.getoption("pythonwarnings") or ()):
        _said(notebook)  # on newer versions a dependency may warn


def _said(notebook):
    """Return the printed text of the cells; fail where any is on stderr, where warnings go."""
    outputs = [
        output
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
        if output.output_type == "stream"
    ]
    assert [output.text for output in outputs if output.name == "stderr"] == []
    return "".join(output.text for output in outputs)
