"""The figures of the papers hold in quick form, and the command says so."""

from __future__ import annotations

import json
import math
from pathlib import Path

import jax.numpy as jnp
import pytest

import clipax
from benchmarks.papers import PAPERS, Paper, claims
from benchmarks.papers.claims import Claim
from benchmarks.papers.command import main
from benchmarks.papers.loops import steps_until


@pytest.mark.parametrize("name", PAPERS)
def test_figures_of_a_paper(name: str) -> None:
    found = PAPERS[name].claims(True, 0)
    assert len({claim.name for claim in found}) == len(found) > 0
    assert [claim for claim in found if not claim.holds] == []


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
    assert claim.holds is holds
    assert claim.allowed


@pytest.mark.parametrize(("limit", "steps"), [(100, 8), (5, 5)])
def test_steps_are_counted_up_to_the_limit(limit: int, steps: int) -> None:
    found = steps_until(
        clipax.clip_sgd(1.0, 0.25), lambda x, _: x, lambda x: x <= 1, jnp.asarray(3.0), limit
    )
    assert int(found) == steps


@pytest.fixture
def two_papers(monkeypatch: pytest.MonkeyPatch) -> list[tuple[bool, int]]:
    """Two papers that cost nothing, and the arguments with which they were asked."""
    asked: list[tuple[bool, int]] = []

    def right(quick: bool, seed: int) -> list[Claim]:
        asked.append((quick, seed))
        return [claims.exact("steps", 1_465_965, 1_465_965), claims.within("range", (1, 2), 1.5)]

    def wrong(quick: bool, seed: int) -> list[Claim]:
        return [*right(quick, seed), claims.close("bias", 0.25, 0.5, 0.03)]

    for name in list(PAPERS):
        monkeypatch.delitem(PAPERS, name)
    monkeypatch.setitem(PAPERS, "right", Paper("a paper that holds", right))
    monkeypatch.setitem(PAPERS, "wrong", Paper("a paper that does not", wrong))
    return asked


def test_a_figure_that_does_not_hold_fails_the_command(
    two_papers: list[tuple[bool, int]], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    files = [f"--json={tmp_path / 'out.json'}", f"--markdown={tmp_path / 'out.md'}"]
    assert main(["all", "--quick", "--seed", "7", *files]) == 1
    assert two_papers == [(True, 7), (True, 7)]
    printed = capsys.readouterr().out
    assert "1,465,965 1,465,965" in printed
    assert "4 of 5 figures hold." in printed
    assert "Missed: wrong, bias" in printed
    content = json.loads((tmp_path / "out.json").read_text())
    assert content["settings"]["size"] == "quick"
    assert content["settings"]["jax"]
    assert content["settings"]["date"]
    holding, missing = content["papers"]
    assert [claim["holds"] for claim in holding["claims"]] == [True, True]
    assert missing["claims"][2] == {
        "name": "bias",
        "reference": 0.25,
        "measured": 0.5,
        "allowed": "+-3 %",
        "holds": False,
    }
    lines = (tmp_path / "out.md").read_text().splitlines()
    assert "## wrong: a paper that does not (0 s)" in lines
    assert "| bias   |      0.25 |       0.5 |        +-3 % |  MISSED |" in lines
    assert "| range  |    1 to 2 |       1.5 | in the range |   holds |" in lines


def test_papers_that_hold(
    two_papers: list[tuple[bool, int]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["right", "right"]) == 0
    assert two_papers == [(False, 0)]
    assert "2 of 2 figures hold." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "required: NAME"),
        (["zhang1920"], "invalid choice: 'zhang1920'"),
        (["all", "--seed", "-1"], "whole number below 2^32, got '-1'"),
        (["all", "--json", "nowhere/at/all.json"], "cannot write nowhere/at/all.json: No such"),
    ],
)
def test_bad_arguments(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err
