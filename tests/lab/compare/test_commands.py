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
    options = "methods data model noise threshold steps batch-size seeds learning-rates out quick"
    for option in options.split():
        assert f"--{option}" in out
    words = " ".join(out.split())
    for text in ("none, gaussian:S, pareto:ALPHA, skewed-pareto:ALPHA, student-t:DF", "pareto:1.5"):
        assert text in words
    for name in DEFAULT_METHODS:
        assert name in words


def test_the_catalogue_is_listed_whole(capsys):
    status, out, err = run(capsys, "methods")
    assert (status, err) == (0, "")
    names = {line.partition(":")[0].strip() for line in out.splitlines()}
    expected = set(ENTRIES) | {name for entry in ENTRIES.values() for name in entry.variants}
    assert expected | {"sgd", "adam"} <= names


def test_the_catalogue_is_printed_as_the_table_of_the_documentation(capsys):
    status, out, _ = run(capsys, "methods", "--markdown")
    assert status == 0
    assert out.rstrip("\n") == clipax.catalogue.markdown_table()


def test_compare_makes_its_files_and_a_table(capsys):
    words = ["compare", "--quick", "--methods", "sgd, clip_sgd", "--out", "out/there"]
    status, out, err = run(capsys, *words)
    assert status == 0
    out_folder = Path("out/there")
    assert {path.name for path in out_folder.iterdir()} == {
        "results.jsonl",
        "summary.md",
        "curves.png",
    }
    settings, *results = map(json.loads, (out_folder / "results.jsonl").read_text().splitlines())
    assert settings["settings"]["steps"] == commands.QUICK["steps"]
    assert {line["result"]["method"] for line in results} == {"sgd", "clip_sgd"}
    assert all(len(line["result"]["seeds"]) == commands.QUICK["seeds"] for line in results)
    rows = [line.split()[0] for line in out.splitlines() if len(line.split()) == 8]
    # Under this noise a clipped step gets further than a plain one.
    assert rows == ["clip_sgd", "sgd"]
    assert "digits, mlp, gradient noise pareto:1.5, 60 steps" in out
    assert "| clip_sgd |" in (out_folder / "summary.md").read_text()
    assert "saved sgd" in err
    assert "100 %" in err

    again, table, told = run(capsys, *words)
    assert again == 0
    assert table == out
    assert "kept from the last run: sgd, clip_sgd" in told
    assert "saved" not in told

    refused, nothing, line = run(capsys, *words, "--steps", "5")
    assert (refused, nothing, line.count("\n")) == (2, "", 1)
    assert "results of other settings (steps: 60 there, 5 now)" in line


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--methods", "clip_sdg"], "unknown method 'clip_sdg'; nearest: clip_sgd"),
        (["--methods", ","], "no method given"),
        (["--noise", "parteo:1.5"], "unknown noise 'parteo:1.5'. Did you mean pareto?"),
        (["--noise", "pareto:x"], "must end in a number"),
        (["--data", "missing.npz"], "missing.npz does not exist"),
        (["--data", "malformed.npz"], "malformed.npz is not an .npz archive"),
        (["--data", "unequal.npz"], "x and y do not match, 12 examples but 11 labels"),
        (["--data", "digit"], "unknown data 'digit'"),
        (["--model", "vgg"], "unknown model 'vgg'"),
        (["--model", "cnn", "--data", "wine"], "model cnn needs images"),
        (["--out", "file/below"], "output folder file/below cannot be used: Not a directory"),
        (["--out", "file"], "output folder file cannot be used: File exists"),
        (["--methods", "skip_nonfinite"], "is a transformation, no optimizer"),
        (["--steps", "0"], "--steps must be from 1 to 10,000,000"),
        (["--steps", "many"], "Invalid value for '--steps'"),
        (["--seeds", "-1"], "--seeds must be from 1 to 10,000"),
        (["--batch-size", "0"], "--batch-size must be from 1 to 100,000"),
        (["--learning-rates", "0.1,-1"], "learning rates must be positive"),
        (["--learning-rates", "fast"], "--learning-rates must be numbers"),
        (["--threshold", "0"], "--threshold must be positive"),
        (["--noise-scale", "nan"], "--noise-scale must be positive"),
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
    monkeypatch.setattr(commands, "compare", lambda *_: [])
    monkeypatch.setattr(commands, "write_summary", lambda *_: "")
    Path("out").write_text("a file where the folder was")
    status, _, err = run(capsys, "compare", "--out", "out")
    assert (status, err) == (2, "clipax: output folder out cannot be used: Not a directory.\n")


def test_an_interruption_says_how_to_resume(capsys, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "compare", interrupted)
    status, out, err = run(capsys, "compare", "--out", "there")
    assert (status, out) == (130, "")
    assert err == ("Interrupted. Finished methods are kept in there; the same command resumes.\n")
