"""What a method needs beside its own file: rows, cases and lists that no other test asks for."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import pytest

from clipax.catalogue import ENTRIES
from clipax.thresholds import as_threshold
from tests.contract.__main__ import Selection, main
from tests.contract.cases import OPTIONS, TWINS
from tests.contract.test_documentation import SHARED
from tests.counts.test_thresholds import REMEMBERING as COUNTED
from tests.oracles import ORACLES
from tests.thresholds.test_memory import REMEMBERING as FOLLOWED

ROOT = Path(__file__).parents[2]
EACH = pytest.mark.parametrize("name", ENTRIES)

# Arguments that no oracle of the method itself follows: where they are tested instead.
TESTED_ELSEWHERE = {
    ("norms.adagrad_norm", "reweight"): "clip_radagrad_norm",
    ("thresholds.geometric_quantile", "seed"): "random: tests/thresholds/test_quantile.py",
    ("clip_by_singular_values", "method"): "another algorithm, the same numbers",
    ("ggnc", "method"): "another algorithm, the same numbers",
    ("thresholds.geometric_quantile", "noise"): "random: tests/thresholds/test_quantile.py",
    ("clip_by_param_norm", "stacked"): "a scope: tests/transforms/test_clip_by_param_norm.py",
    **{
        (guard, argument): "what a guard judges: tests/transforms/test_guards.py"
        for guard in ("skip_nonfinite", "skip_spikes")
        for argument in ("check", "exclude")
    },
    ("skip_spikes", "loss"): "needs the loss: tests/transforms/test_skip_on_loss.py",
    ("norms.clip", "response"): "clip_by_smooth_norm",
    ("norms.clip", "floor"): "clip_by_regularized_norm",
    ("norms.clip", "offset"): "clip_sgd",
    ("scale_by_norm", "weight_decay"): "a case of its own in cases.py",
    ("scale_by_norm", "total"): "clip_by_group_norm",
}
MEASURED = {
    "faults.json": ("faults", "method", "clipax/{}"),
    "programs_gpu.json": ("programs --target gpu", "method", "{}"),
    "programs_tpu.json": ("programs --target tpu", "method", "{}"),
}
"""Files in benchmarks/results/ with a row a method: the command, the column and what it holds."""


def _remembering() -> set[str]:
    """The thresholds with a memory."""
    return {
        name
        for name, entry in ENTRIES.items()
        if entry.kind == "threshold"
        and jax.tree.leaves(as_threshold(entry.factory(**entry.example)).init(()))
    }


def _relatives(name: str) -> set[str]:
    """The method and those of one program with it."""
    named, _ = TWINS.get(name, (name, ""))
    return {name, named, *(twin for twin, (other, _) in TWINS.items() if other == named)}


def _choices(name: str) -> Iterator[str]:
    """The arguments by which a method takes another path: words, flags, and None for none of it."""
    for argument in inspect.signature(ENTRIES[name].factory).parameters.values():
        if argument.name not in SHARED and isinstance(argument.default, str | bool | None):
            yield argument.name


@EACH
def test_an_oracle_takes_every_argument(name: str) -> None:
    told = inspect.signature(ORACLES[name]).parameters
    own = inspect.signature(ENTRIES[name].factory).parameters
    elsewhere = {argument for method, argument in TESTED_ELSEWHERE if method == name}
    assert not own.keys() - {*told, *SHARED, *elsewhere}, "arguments that the oracle does not know"


@EACH
def test_every_choice_is_a_case_against_the_oracle(name: str) -> None:
    told = set(ENTRIES[name].example)
    told |= {key for one in _relatives(name) for option in OPTIONS.get(one, ()) for key in option}
    missing = [
        choice
        for choice in _choices(name)
        if choice not in told and (name, choice) not in TESTED_ELSEWHERE
    ]
    assert not missing, "add an option to OPTIONS in tests/contract/cases.py"


@EACH
@pytest.mark.parametrize("file", MEASURED)
def test_a_method_is_in_the_published_tables(name: str, file: str) -> None:
    command, column, pattern = MEASURED[file]
    rows = json.loads((ROOT / "benchmarks" / "results" / file).read_text())["rows"]
    assert pattern.format(name) in {row.get(column) for row in rows}, (
        f"`python -m benchmarks {command}` measures it"
    )


def test_every_memory_of_norms_is_followed_and_counted() -> None:
    for place, listed in (
        ("tests/thresholds/test_memory.py", FOLLOWED),
        ("tests/counts/test_thresholds.py", COUNTED),
    ):
        assert set(listed) == _remembering(), f"REMEMBERING in {place} names other thresholds"


def test_the_command_refuses_what_is_no_entry(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == main(["thresholds.medain"]) == 2
    assert "(thresholds.median" in capsys.readouterr().err


def test_the_command_selects_what_is_said_of_a_method_and_of_its_twin() -> None:
    def item(name: str, file: str = "elsewhere.py") -> Any:
        path = ROOT / "tests" / file
        if "[" not in name:
            return SimpleNamespace(name=name, path=path)
        return SimpleNamespace(name=name, path=path, callspec=SimpleNamespace(id=name[:-1]))

    kept = [
        item("test_one[thresholds.median-leaf]"),
        item("test_one[nan-clip_by_median]"),
        item("test_every_method_has_an_oracle", "contract/test_repository.py"),
        item("test_the_tables_are_the_catalogue[README.md]"),
    ]
    items = [*kept, item("test_one[clip_by_quantile]"), item("test_one"), item("test_one[median]")]
    Selection("thresholds.median").pytest_collection_modifyitems(items)
    assert items == kept
