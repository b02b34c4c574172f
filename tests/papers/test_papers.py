"""The figures of the papers hold in quick form, and the command says so."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

import jax.numpy as jnp
import pytest

import clipax
from benchmarks.papers import PAPERS, Claim, Options, Outcome, Panel, Paper, claims
from benchmarks.papers.command import main, write_report
from benchmarks.papers.figure import figure
from benchmarks.papers.loops import steps_until
from benchmarks.papers.paper import measure
from benchmarks.papers.report import describe_claim
from tests.papers.test_real_data import REAL_DATA
from tests.quick_code import compiled_quickly
from tests.thorough import thorough

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"

# In quick form these compile for longer than they run.
COMPILING = ("marshall2025", "zhang2020_mixed", "andrew2021")


@pytest.mark.parametrize("name", thorough(PAPERS, but=["zhang2020", "tucat2025"]))
def test_figures_of_a_paper(name: str) -> None:
    # What learns from real data has a file of its own.
    parts = tuple(part for part in PAPERS[name].parts if part not in REAL_DATA)
    with compiled_quickly() if name in COMPILING else nullcontext():
        found = measure(name, replace(PAPERS[name], parts=parts), Options(quick=True), {})
    assert found.failures == []
    assert len({claim.name for claim in found.claims}) == len(found.claims) > 0
    assert [claim for claim in found.claims if not claim.holds] == []
    if not found.panels:
        return
    drawn = figure(found.title, found.panels).axes
    assert [axes.get_title() for axes in drawn] == [panel.title for panel in found.panels]
    for axes in drawn:
        assert axes.has_data()
        assert axes.get_xlabel()
        assert axes.get_ylabel()


@pytest.mark.parametrize(
    ("claim", "holds"),
    [
        (claims.exact("", 508, 508), True),
        (claims.exact("", 508, 509), False),
        (claims.close("", 2.0, 2.02, 0.02), True),
        (claims.close("", 2.0, 1.9, 0.02), False),
        (claims.close("", 2.0, 1.9, 0.02, absolute=0.2), True),
        (claims.close("", 0.0, -0.01, 0.02, absolute=0.005), False),
        (claims.close("", 0.0, math.nan, 0.02, absolute=0.005), False),
        (claims.factor("", 2.0, 1.1, 2.0), True),
        (claims.factor("", 2.0, 0.9, 2.0), False),
        (claims.factor("", 2.0, 4.1, 2.0), False),
        (claims.factor("", 2.0, math.nan, 2.0), False),
        (claims.at_most("", 0, 0), True),
        (claims.at_most("", 0, 1), False),
        (claims.at_most("", 0, math.nan), False),
        (claims.within("", (67, 75), 67), True),
        (claims.within("", (67, 75), 66), False),
        (claims.within("", (67, 75), 76), False),
        (claims.within("", (67, 75), math.nan), False),
    ],
)
def test_what_is_allowed(claim: Claim, holds: bool) -> None:
    assert claim.verdict == ("holds" if holds else "MISSED")
    assert claim.allowed


@pytest.mark.parametrize(
    ("make", "right", "wrong", "across"),
    [
        (partial(claims.close, "", 2.0, relative=0.1), (1.9, 2.1), (2.3, 2.5), (2.1, 2.3)),
        # Right in the middle alone, and with both ends outside.
        (partial(claims.close, "", 0.0, relative=0.0, absolute=1.0), (-1, 1), (-3, -2), (-2, 2)),
        (partial(claims.factor, "", 2.0, allowed=2.0), (1.0, 4.0), (5.0, 6.0), (0.5, 5.0)),
        (partial(claims.at_most, "", 1.0), (0.8, 1.0), (1.1, 1.2), (0.9, 1.1)),
        (partial(claims.within, "", (1, 2)), (1, 2), (3, 4), (0, 5)),
    ],
)
def test_an_interval_with_room_for_both_leaves_a_figure_open(
    make: Callable[..., Claim],
    right: tuple[float, float],
    wrong: tuple[float, float],
    across: tuple[float, float],
) -> None:
    for interval, verdict in ((right, "holds"), (wrong, "MISSED"), (across, "open")):
        for measured in (interval[0], sum(interval) / 2, interval[1]):
            claim = make(measured=measured, interval=interval)
            assert claim.verdict == verdict
            assert claim.holds is (verdict == "holds")
            assert claim.interval == interval
        assert make(measured=math.nan, interval=interval).verdict == "MISSED"
        with pytest.raises(ValueError, match="outside of its interval"):
            make(measured=interval[1] + 1, interval=interval)


def test_a_claim_says_whose_it_is() -> None:
    assert claims.exact("steps", 1, 1).source == "derived"
    assert claims.at_most("loss", 1, 1, source="ours").source == "ours"
    with pytest.raises(ValueError, match="source 'theirs'"):
        claims.exact("steps", 1, 1, source="theirs")  # type: ignore[arg-type]


@pytest.mark.parametrize(("limit", "steps"), [(100, 8), (5, 5)])
def test_steps_are_counted_up_to_the_limit(limit: int, steps: int) -> None:
    found = steps_until(
        clipax.clip_sgd(1.0, 0.25), lambda x, _: x, lambda x: x <= 1, jnp.asarray(3.0), limit
    )
    assert int(found) == steps


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Options]:
    """Papers that cost nothing, and the options with which they were asked."""
    options: list[Options] = []

    def right(given: Options) -> Outcome:
        options.append(given)
        found = [claims.exact("steps", 1_465_965, 1_465_965), claims.within("range", (1, 2), 1.5)]
        panel = Panel("Descent", "iteration", "loss", lambda axes: axes.semilogy([0, 1], [1, 0.1]))
        return Outcome(found, [panel], ["Table 9 is not reproduced."])

    def wrong(given: Options) -> Outcome:
        return Outcome([claims.close("bias", 0.25, 0.5, 0.03, source="paper")])

    def broken(given: Options) -> Outcome:
        raise RuntimeError("no more ink")

    for name in list(reversed(PAPERS)):  # they are put back last one first, in their old order
        monkeypatch.delitem(PAPERS, name)
    monkeypatch.setitem(PAPERS, "broken", Paper("a paper that fails", (broken, wrong)))
    monkeypatch.setitem(PAPERS, "right", Paper("a paper that holds", (right,)))
    monkeypatch.setitem(PAPERS, "wrong", Paper("a paper that does not", (right, wrong)))
    return options


def test_what_does_not_hold_fails_the_command_and_keeps_the_rest(
    asked: list[Options], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = tmp_path / "new" / "folder"
    arguments = ["--quick", "--seed", "7", f"--data-dir={tmp_path}", f"--out={out}"]
    assert main(["all", *arguments]) == 1
    runs = [out / f"{name}_runs" for name in ("right", "wrong")]
    assert asked == [Options(True, 7, tmp_path, folder) for folder in runs]
    printed = capsys.readouterr()
    assert "1,465,965 1,465,965" in printed.out
    assert "4 of 6 figures hold." in printed.out
    assert "Missed: wrong, bias" in printed.out
    assert "broken: RuntimeError('no more ink')" in printed.out
    assert "Traceback" in printed.err
    names = {path.name for path in out.iterdir()}
    assert names == {
        "papers.md",
        "broken.json",
        "right.json",
        "right.png",
        "wrong.json",
        "wrong.png",
    }
    assert (out / "right.png").read_bytes().startswith(b"\x89PNG")
    content = json.loads((out / "wrong.json").read_text())
    assert content["settings"]["size"] == "quick"
    assert content["settings"]["seed"] == "7"
    assert content["settings"]["jax"]
    assert content["settings"]["date"]
    assert content["notes"] == ["Table 9 is not reproduced."]
    assert content["passes"] is False
    assert [claim["verdict"] for claim in content["claims"]] == ["holds", "holds", "MISSED"]
    assert content["claims"][2] == {
        "name": "bias",
        "reference": 0.25,
        "measured": 0.5,
        "allowed": "+-3 %",
        "verdict": "MISSED",
        "source": "paper",
    }


def test_numbers_are_kept_where_a_panel_fails(
    asked: list[Options], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def part(given: Options) -> Outcome:
        panel = Panel("Descent", "iteration", "loss", lambda axes: axes.plot([0, 1], [0]))
        return Outcome([claims.exact("steps", 3, 3)], [panel])

    monkeypatch.setitem(PAPERS, "undrawn", Paper("a paper without a picture", (part,)))
    assert main(["undrawn", f"--out={tmp_path}"]) == 1
    content = json.loads((tmp_path / "undrawn.json").read_text())
    assert [claim["measured"] for claim in content["claims"]] == [3]
    assert len(content["failures"]) == 1
    assert content["failures"][0].startswith("undrawn.png: ValueError")
    assert "- Failed: undrawn.png" in (tmp_path / "papers.md").read_text()


def test_tables_are_made_of_all_files_of_the_folder(asked: list[Options], tmp_path: Path) -> None:
    out, tables = tmp_path / "out", tmp_path / "all.md"
    for arguments in (["wrong", "--seed", "3"], ["right", "right"]):
        main([*arguments, "--quick", f"--out={out}", f"--markdown={tables}"])
    assert [options.seed for options in asked] == [3, 0]
    text = tables.read_text()
    lines = text.splitlines()
    assert "4 of 5 figures hold." in lines
    assert text.index("## right: a paper that") < text.index("## wrong: a paper that")
    assert [line.split(", ")[-1] for line in lines if "size quick" in line] == [
        "seed 0.",
        "seed 3.",
    ]
    assert "| bias   |   paper |      0.25 |       0.5 |        +-3 % |  MISSED |" in lines
    assert "| range  | derived |    1 to 2 |       1.5 | in the range |   holds |" in lines
    assert "- Table 9 is not reproduced." in lines
    assert "![a paper that holds](out/right.png)" in lines
    # What a file says is what was measured.
    assert main(["right", "--quick", f"--out={out}", f"--markdown={tables}"]) == 0
    assert tables.read_text() == text


def test_the_committed_report_is_that_of_the_committed_results() -> None:
    assert (RESULTS / "papers.md").read_text() == write_report(RESULTS / "papers", RESULTS)


def test_an_interval_shows_on_which_side_of_the_reference_it_ends() -> None:
    claim = claims.at_most("ratio", 1.0, 1.00002, interval=(0.99998, 1.0001))
    assert describe_claim(claim)["measured"] == "1.00002 (0.99998 to 1.0001)"
    claim = claims.at_most("share", 0.0, 0.0, interval=(0.0, 0.123456))
    assert describe_claim(claim)["measured"] == "0 (0 to 0.1235)"


def test_an_open_figure_is_named_and_fails_no_command(
    asked: list[Options], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def part(given: Options) -> Outcome:
        claim = claims.at_most("ratio", 1.0, 0.99, source="paper", interval=(0.9, 1.1))
        return Outcome([claim, claims.exact("steps", 3, 3)])

    monkeypatch.setitem(PAPERS, "few", Paper("a paper of few seeds", (part,)))
    for _ in range(2):  # the second time what is printed comes from the file
        assert main(["few", f"--out={tmp_path}"]) == 0
        text = (tmp_path / "papers.md").read_text()
        assert "1 of 2 figures hold.\n- Open: few, ratio" in text
        assert "| 0.99 (0.9 to 1.1) | at most |    open |" in text
        assert "paper (1): the paper says it" in text


def test_a_folder_of_other_files_is_refused(
    asked: list[Options], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "other.json").write_text('{"passes": true}')
    with pytest.raises(SystemExit):
        main(["right", f"--out={tmp_path}"])
    assert asked == []
    assert f"{tmp_path / 'other.json'} is not a paper's result: 'claims'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "required: NAME"),
        (["zhang1920"], "invalid choice: 'zhang1920'"),
        (["all", "--seed", "-1"], "whole number below 2^32, got '-1'"),
        (["all", "--data-dir", "nowhere/at/all"], "folder that exists, got 'nowhere/at/all'"),
        (["all", "--out", "pyproject.toml"], "cannot write pyproject.toml: File exists"),
    ],
)
def test_bad_arguments(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err
