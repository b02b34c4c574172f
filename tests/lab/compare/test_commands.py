"""The commands: what they print, and that bad input ends with one line and status 2."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import clipax
from clipax import cli
from clipax.catalogue import ENTRIES
from clipax.lab._compare import commands
from clipax.lab._compare.methods import DEFAULT_METHODS
from clipax.lab._compare.outcome import Comparison
from clipax.lab._compare.settings import Settings
from tests.lab.compare.made_results import NORMS, RESULTS


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def run(capsys, *words):
    status = cli.main(words)
    out, err = capsys.readouterr()
    return status, out, err


def test_the_version(capsys):
    assert run(capsys, "--version") == (0, f"clipax {clipax.__version__}\n", "")


def test_without_a_command_there_is_help(capsys):
    status, out, err = run(capsys)
    assert (status, err) == (0, "")
    assert "compare" in out
    assert "methods" in out
    assert run(capsys, "--help")[1] == out


def test_help_names_every_option_and_default(capsys):
    status, out, _ = run(capsys, "compare", "--help")
    assert status == 0
    options = (
        "methods task model noise noise-scale corrupt steps batch-size seeds learning-rates width "
        "out quick"
    )
    for option in options.split():
        assert f"--{option}" in out
    words = " ".join(out.split())
    for text in ("or in every entry gaussian:S, pareto:ALPHA", "norm:pareto"):
        assert text in words
    for name in DEFAULT_METHODS:
        assert name in words


def test_the_catalogue_is_listed_whole(capsys):
    status, out, err = run(capsys, "methods")
    assert (status, err) == (0, "")
    names = {line.partition(":")[0].strip() for line in out.splitlines()}
    expected = set(ENTRIES) | {name for entry in ENTRIES.values() for name in entry.variants}
    assert expected <= names
    assert "adamw, adam, lion, muon, sgd" in out


def test_the_catalogue_is_printed_as_the_table_of_the_documentation(capsys):
    status, out, _ = run(capsys, "methods", "--markdown")
    assert status == 0
    assert out.rstrip("\n") == clipax.catalogue.markdown_table()


def test_compare_makes_its_files_and_a_table(capsys):
    words = ["compare", "--quick", "--task", "wine", "--noise", "pareto:1.5", "--noise-scale", "1"]
    words += ["--methods", "sgd, clip_by_global_norm+sgd", "--out", "out/there"]
    status, out, err = run(capsys, *words)
    assert status == 0
    out_folder = Path("out/there")
    assert {path.name for path in out_folder.iterdir()} == {
        "results.jsonl",
        "summary.md",
        "curves.png",
    }
    lines = map(json.loads, (out_folder / "results.jsonl").read_text().splitlines())
    settings, norms, *results = lines
    assert settings["settings"]["steps"] == commands.QUICK["steps"]
    assert len(norms["norms"]["series"]) == commands.QUICK["steps"]
    names = {"sgd", "clip_by_global_norm+sgd"}
    assert {line["result"]["method"] for line in results} == names
    assert all(len(line["result"]["seeds"]) == commands.QUICK["seeds"] for line in results)
    assert all(len(line["result"]["settings"]) == 8 for line in results)
    assert "wine, mlp: 1 % corrupt batches, noise 1 pareto:1.5, 60 steps" in out
    assert "Start with " in out or "a run with more seeds decides" in out
    assert "60 steps and 4 seeds are a trial" in out
    assert "| clip_by_global_norm+sgd |" in (out_folder / "summary.md").read_text()
    assert "finished sgd" in err
    assert "100 %" in err

    again, table, told = run(capsys, *words)
    assert again == 0
    assert table == out
    assert "kept from the last run: sgd, clip_by_global_norm+sgd" in told
    assert "finished" not in told

    refused, nothing, line = run(capsys, *words, "--steps", "5")
    assert (refused, nothing, line.count("\n")) == (2, "", 1)
    assert "results of other settings (steps: 60 there, 5 now)" in line


OWN = """
import jax, jax.numpy as jnp, numpy as np
from clipax.lab import Task

X = np.random.default_rng(0).normal(size=(64, 3)).astype(np.float32)

def batches(seed):
    random = np.random.default_rng(seed)
    while True:
        yield X[random.integers(64, size=8)]

def make():
    return Task(
        init=lambda key: jax.random.normal(key, (3,)),
        loss=lambda w, x: jnp.mean((x @ (w - 1)) ** 2),
        batches=batches,
        validation=X,
        name="mine",
    )

task = make()
number = 3
"""


def test_a_task_of_ones_own_is_found_by_the_name_of_its_module(capsys, monkeypatch):
    Path("own_task.py").write_text(OWN)
    words = ["--methods", "sgd", "--learning-rates", "0.1", "--steps", "5", "--seeds", "2"]
    for name in ("task", "make"):
        out_folder = ["--out", f"out_{name}"]
        status, out, _ = run(capsys, "compare", "--task", f"own_task:{name}", *words, *out_folder)
        assert (status, "mine: no noise added, 5 steps" in out) == (0, True)
    for name, message in {
        "own_task:taks": "module own_task has no 'taks'. It has: task.",
        "own_task:number": "must be a clipax.lab.Task, or a function that makes one, got int",
        "own_tsak:task": "no module own_tsak; it is looked for in ",
        "own_task:": "module own_task has no ''",
        ":task": "must be module:attribute",
    }.items():
        status, _, err = run(capsys, "compare", "--task", name, *words)
        assert (status, message in err) == (2, True), err


def test_an_error_inside_the_module_of_a_task_is_shown_whole(capsys):
    Path("broken_task.py").write_text("import no_such_module_at_all")
    with pytest.raises(ModuleNotFoundError, match="no_such_module_at_all"):
        run(capsys, "compare", "--task", "broken_task:task")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--methods", "clip_sdg"], "unknown method 'clip_sdg'; nearest: clip_sgd"),
        (["--methods", ","], "no method given"),
        (["--noise", "parteo:1.5"], "unknown noise 'parteo:1.5'. Did you mean pareto?"),
        (["--noise", "pareto:x"], "must end in a number"),
        (["--task", "missing.npz"], "missing.npz does not exist"),
        (["--task", "malformed.npz"], "malformed.npz is not an .npz archive"),
        (["--task", "unequal.npz"], "x and y do not match, 12 examples but 11 labels"),
        (["--task", "digit"], "unknown task 'digit'"),
        (["--task", "wine", "--model", "vgg"], "unknown model 'vgg'"),
        (["--task", "text", "--model", "mlp"], "model does not apply to the task text"),
        (["--model", "cnn", "--task", "wine"], "model cnn needs images"),
        (["--out", "file/below"], "output folder file/below cannot be used: Not a directory"),
        (["--out", "file"], "output folder file cannot be used: File exists"),
        (["--methods", "skip_nonfinite"], "is no optimizer; put one behind it"),
        (["--steps", "0"], "steps must be from 1 to 10,000,000"),
        (["--steps", "many"], "Invalid value for '--steps'"),
        (["--seeds", "-1"], "seeds must be from 1 to 10,000"),
        (["--batch-size", "0"], "batch size must be from 1 to 100,000"),
        (["--learning-rates", "0.1,-1"], "learning rates must be positive"),
        (["--learning-rates", "fast"], "learning rates must be numbers"),
        (["--corrupt", "2"], "corrupt must be a share"),
        (["--width", "0"], "Invalid value for '--width'"),
        (["--noise-scale", "nan"], "noise scale must be positive"),
        (["--nonsense"], "No such option: --nonsense"),
        (["nonsense"], "nonsense"),
    ],
)
def test_bad_input_ends_with_one_line_and_status_2(capsys, words, message):
    Path("malformed.npz").write_text("not a zip")
    Path("file").write_text("")
    np.savez("unequal.npz", x=np.ones((12, 3)), y=np.arange(11) % 3)
    before = set(Path().iterdir())
    status, out, err = run(capsys, "compare", *words)
    assert status == 2
    assert out == ""
    assert err.startswith("clipax: ")
    assert err.count("\n") == 1
    assert message in err
    assert set(Path().iterdir()) == before


def test_an_output_folder_that_fails_at_the_end_is_told(capsys, monkeypatch):
    found = Comparison("mine", Settings(), NORMS, tuple(RESULTS))
    monkeypatch.setattr(commands, "compare", lambda *_, **__: found)
    Path("out").write_text("a file where the folder was")
    status, _, err = run(capsys, "compare", "--out", "out")
    assert (status, err) == (2, "clipax: output folder out cannot be used: Not a directory.\n")


def test_an_interruption_says_how_to_resume(capsys, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "compare", interrupted)
    status, out, err = run(capsys, "compare", "--out", "there")
    assert (status, out) == (130, "")
    assert err == ("Interrupted. Finished methods are kept in there; the same command resumes.\n")
