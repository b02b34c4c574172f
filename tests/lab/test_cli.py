"""The command line: its exit status, and that it needs no extra to be imported."""

from __future__ import annotations

import importlib.util
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import clipax
from clipax import cli
from clipax.lab._compare import commands


def run(capsys, *words):
    status = cli.main(words)
    out, err = capsys.readouterr()
    return status, out, err


@pytest.mark.parametrize("words", [["nonsense"], ["--nonsense"], ["methods", "--nonsense"]])
def test_bad_commands_end_likewise(capsys, words):
    status, out, err = run(capsys, *words)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "nonsense" in err


def test_faults_of_our_own_keep_their_traceback(monkeypatch):
    def faulty(*_, **__):
        raise RuntimeError("a bug")

    monkeypatch.setattr(commands, "compare", faulty)
    with pytest.raises(RuntimeError, match="a bug"):
        cli.main(["compare"])


def test_without_the_extra_one_line_says_what_to_install(capsys, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name in ("typer", "flax") else find(name)
    )
    assert run(capsys, "compare") == (
        2,
        "",
        'clipax: flax, typer not found; the command needs: pip install "clipax[lab]"\n',
    )


def test_importing_the_command_line_needs_no_extra():
    code = (
        "import sys, clipax.cli; print([n for n in ('typer', 'rich', 'flax', 'sklearn') "
        "if n in sys.modules])"
    )
    root = Path(clipax.__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


def test_python_dash_m_runs_it_and_passes_the_status_on(request):
    root = Path(clipax.__file__).parent.parent
    filters = request.config.getoption("pythonwarnings") or ["ignore"]
    done = subprocess.run(
        [sys.executable, "-W", filters[-1], "-m", "clipax", "compare", "--data", "digit"],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1


SHOW = """
import signal, clipax
interrupt, end = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
print(interrupt.__module__, end == signal.SIG_DFL)
"""


@pytest.mark.parametrize(
    ("name", "shown"), [("program", "_signal True\n"), ("clipax", "clipax._interruption False\n")]
)
def test_programs_that_import_the_package_keep_their_handlers(tmp_path, name, shown):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # not ignored, as behind `&`
    (tmp_path / name).write_text(SHOW)
    environment = {"PYTHONPATH": str(Path(clipax.__file__).parent.parent), "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, str(tmp_path / name), "-m", "clipax"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    signal.signal(signal.SIGINT, before)
    assert done.stdout == shown
