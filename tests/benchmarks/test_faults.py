"""The command that puts all methods through the faults."""

from __future__ import annotations

import json
import re
from pathlib import Path

import optax
import pytest

from benchmarks.command import main
from benchmarks.harness.records import MISSED
from benchmarks.suites import faults
from benchmarks.suites.faults import is_as_declared, subjects
from clipax.catalogue import DIES, ENTRIES, RECOVERS
from clipax.testing import inject_faults


def test_all_methods_of_clipax_and_optax_are_subjects():
    names = set(subjects())
    assert {f"clipax/{name}" for name in ENTRIES} <= names
    assert {f"optax/{name}" for name in faults.OPTAX} <= names


def test_the_command_writes_what_it_prints(tmp_path, capsys):
    as_json, as_table = tmp_path / "faults.json", tmp_path / "faults.md"
    files = ["--json", str(as_json), "--markdown", str(as_table)]
    pattern = "^(clipax/clip_by_value|optax/ema)$"
    assert main(["faults", "--only", pattern, *files]) == 0
    lines = capsys.readouterr().out.splitlines()
    header, ours, theirs = (line for line in lines if re.match("method|clipax/|optax/", line))
    assert header.split()[:3] == ["method", "clips", "nan"]
    assert ours.split()[:3] == ["clipax/clip_by_value", "yes", "recovers"]
    assert theirs.split()[:3] == ["optax/ema", "no", "breaks"]
    assert lines[-1].split()[:5] == ["as", "the", "catalogue", "declares", "all"]
    assert lines[-1].split()[-1] == "holds"
    content = json.loads(as_json.read_text())
    assert content["runs"][0]["optax"] == optax.__version__
    ema = content["rows"][1]
    assert (ema["method"], ema["verdict"], ema["nan"]) == ("optax/ema", "breaks", "breaks")
    assert "| optax/ema            | no    | breaks " in as_table.read_text()


def test_a_method_that_is_not_as_declared():
    report = inject_faults(optax.ema(0.9), faults=["1e38", "spike"])
    assert is_as_declared("mine", report, DIES)
    assert not is_as_declared("mine", report, RECOVERS)
    assert is_as_declared("mine", report, None)
    rows = [{"method": "clipax/mine", "as_declared": False}, {"method": "b", "as_declared": True}]
    (finding,) = faults.judge(rows, "cpu")
    assert (finding.where, finding.verdict) == ("not clipax/mine", MISSED)


def test_an_unknown_pattern_is_refused():
    with pytest.raises(SystemExit):
        main(["faults", "--only", "no such method"])


def test_the_published_table_has_methods_that_exist_alone():
    table = (Path(__file__).parents[2] / "benchmarks/results/faults.md").read_text()
    published = set(re.findall(r"^\| clipax/([\w.]+) ", table, flags=re.MULTILINE))
    assert len(published) > 50
    stale = published - set(ENTRIES)
    assert not stale, f"`python -m benchmarks faults` measures the table anew, {stale} are gone"
