"""Verdicts, tables, files of several runs, and the command that writes them."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import command
from benchmarks.harness import records
from benchmarks.harness.records import HOLDS, MISSED, NEAR, Column, Content, Row
from benchmarks.harness.suite import Suite

KEY = ("tree", "dtype")


@pytest.mark.parametrize(
    ("value", "limit", "spread", "verdict"),
    [
        (0.9, 1.0, 0.0, HOLDS),
        (1.0, 1.0, None, HOLDS),
        (1.04, 1.0, 0.05, NEAR),
        (1.06, 1.0, 0.05, MISSED),
        (1.001, 1.0, None, MISSED),
        (0.0, 0.0, None, HOLDS),
        (1.0, 0.0, None, MISSED),
        (float("nan"), 1.0, 0.5, MISSED),
    ],
)
def test_verdicts(value: float, limit: float, spread: float | None, verdict: str) -> None:
    assert records.judge("figure", "here", value, limit, spread=spread).verdict == verdict


@pytest.mark.parametrize(
    ("value", "verdict"), [(3.1, HOLDS), (3.0, HOLDS), (2.9, NEAR), (2.5, MISSED)]
)
def test_verdicts_on_what_must_be_large(value: float, verdict: str) -> None:
    found = records.judge("figure", "here", value, 3.0, spread=0.1, at_least=True)
    assert found.verdict == verdict


def _rows(tree: str, **changed: float) -> list[Row]:
    programs = ("unclipped", "peer", "clipax")
    return [
        {"tree": tree, "dtype": "f32", "program": one, "time": 1.0} | changed for one in programs
    ]


def _settings(**changed: str) -> dict[str, str]:
    return {"device": "cpu: x", "jax": "1", "optax": "2", "date": "today"} | changed


def _suite(measured: list[list[Row]] | None = None) -> Suite:
    def measure(options: argparse.Namespace) -> Iterator[list[Row]]:
        assert measured is not None
        yield from measured

    return Suite(
        "what it takes",
        KEY,
        (Column("program", "program"), Column("ms", "time", "{:.1f}", 1e3)),
        measure,
        lambda rows, device: [
            records.judge("time", row["tree"], row["time"], 2.0, spread=0.25)
            for row in rows
            if row["program"] == "clipax"
        ],
    )


def test_tables_and_figures() -> None:
    rows = _rows("oak") + _rows("elm|x", time=2.25)
    content = records.merge(Content([], []), _settings(), rows, KEY)
    plain = _suite().render(content).splitlines()
    assert plain[0] == "device cpu: x, jax 1, optax 2, date today"
    assert "tree oak, dtype f32" in plain
    assert "clipax     1000.0" in plain
    assert "|" not in "".join(line for line in plain if "elm" not in line)
    assert plain[-2].split() == ["time", "oak", "2", "1", "+-0.250", "holds"]
    assert plain[-1].split(maxsplit=5) == ["time", "elm|x", "2", "2.25", "+-0.250", NEAR]
    marked = _suite().render(content, markdown=True)
    assert "\n## tree oak, dtype f32\n\n| program   | ms     |\n| --------- | ------ |\n" in marked
    assert f"| time   | elm\\|x | 2     | 2.25     | +-0.250 | {NEAR} |" in marked
    # What no row has is no column.
    some = [{key: value for key, value in row.items() if key != "time"} for row in _rows("ash")]
    bare = Suite("", KEY, _suite().columns, _suite().measure)
    assert " ms" not in bare.render(records.merge(Content([], []), _settings(), some, KEY))


def test_rows_of_several_runs_keep_their_settings(tmp_path: Path) -> None:
    first = _rows("oak") + _rows("elm")
    content = records.merge(Content([], []), _settings(rounds="3"), first, KEY)
    # Of a tree that was measured with fewer programs nothing older is kept.
    second = [row for row in _rows("elm", time=7.0) if row["program"] != "peer"]
    content = records.merge(content, _settings(rounds="5"), second, KEY)
    records.save(tmp_path / "out.json", content)
    content = records.load(tmp_path / "out.json")
    assert len(content.rows) == len(first) - 1
    runs = {row["tree"]: content.runs[row["run"]]["rounds"] for row in content.rows}
    assert runs == {"oak": "3", "elm": "5"}
    assert [row["time"] for row in content.rows if row["program"] == "clipax"] == [1.0, 7.0]
    # A run of which nothing is left goes.
    content = records.merge(content, _settings(rounds="9"), first, KEY)
    assert [run["rounds"] for run in content.runs] == ["9"]
    with pytest.raises(ValueError, match="`device` must be that of the file, cpu: x, got gpu"):
        records.merge(content, _settings(device="gpu"), first, KEY)


def test_a_file_has_a_line_for_each_row(tmp_path: Path) -> None:
    rows = [row | {"time": 1 / 3, "steps": 123_456_789} for row in _rows("oak")]
    records.save(tmp_path / "out.json", records.merge(Content([], []), _settings(), rows, KEY))
    lines = (tmp_path / "out.json").read_text().splitlines()
    (ours,) = [json.loads(line) for line in lines if '"clipax"' in line]
    assert (ours["time"], ours["steps"]) == (0.33333, 123_456_789)
    assert len(lines) == 10  # three of them, one run, the two lists


def test_what_was_measured_is_kept_when_a_run_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path, table = tmp_path / "out.json", tmp_path / "out.md"

    def stops(options: argparse.Namespace) -> Iterator[list[Row]]:
        yield _rows("oak")
        yield _rows("elm", time=5.0)
        yield _rows("elm", time=3.0)  # the same once more, from more repeats
        raise KeyboardInterrupt

    suite = _suite()
    monkeypatch.setattr(
        command,
        "load_suite",
        lambda name: Suite(suite.about, suite.key, suite.columns, stops, suite.judge),
    )
    with pytest.raises(KeyboardInterrupt):
        command.main(["steps", f"--json={path}"])
    content = records.load(path)
    assert [row["time"] for row in content.rows if row["program"] == "clipax"] == [1.0, 3.0]
    # Shown again, without measuring; a figure that is missed is the exit status.
    assert command.main(["steps", f"--show={path}", f"--markdown={table}"]) == 1
    assert "clipax     3000.0" in capsys.readouterr().out
    assert MISSED in table.read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--json", "nowhere/at/all.json"], "cannot write nowhere/at/all.json"),
        (["--merge"], "--merge needs --json PATH"),
        (["--show", "nowhere.json"], "No such file"),
    ],
)
def test_files_are_looked_at_before_anything_is_measured(
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(command, "load_suite", lambda name: _suite())
    with pytest.raises(SystemExit) as stopped:
        command.main(["steps", *arguments])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_an_unknown_command_is_named_and_all_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main([]) == 0
    listed = capsys.readouterr().out
    assert all(f"  {name} " in listed for name in command.SUITES)
    assert command.main(["tale"]) == 2
    assert "no benchmark 'tale'" in capsys.readouterr().err
