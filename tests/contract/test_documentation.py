"""Docstrings of public factories are short and complete; signatures change only on purpose."""

from __future__ import annotations

import inspect
import re
import statistics
from itertools import pairwise

import pytest

import clipax
from clipax.catalogue import ENTRIES, PAPERS
from tests.contract import signatures

EACH = pytest.mark.parametrize("name", ENTRIES)
# In this order; those that are not compulsory stand only where there is a fact of their own.
SECTIONS = ["Args", "Returns", "Raises", "Notes", "Example", "References"]
COMPULSORY = ["Args", "Returns", "Example", "References"]
# What all transformations share is explained once, there.
EXPLAINED_IN = "scale_by_norm"
SHARED = ("scope", "nonfinite", "axis_name")
# Where `nonfinite` decides on entries, not on blocks.
ENTRYWISE = ("clip_by_value", "delay_updates")
FILLERS = (
    "None",
    "None for finite gradients",
    "None known",
    "No communication",
    "Elementwise, no communication",
    "There is no paper",
    "An argument is of the wrong type",
)
# A transformation that lifts a rule on norms names it in code; its formula stands there.
COMPOSITION = re.compile(r"scale_by_norm\(\s*(\w+=)?norms\.\w+\(")
# A paragraph that is indented, in front of the arguments.
FORMULA = re.compile(r"\A(?:(?!^Args:).)*\n\n {4}\S", re.MULTILINE | re.DOTALL)
LONGEST_LIFTED = 30


def docstring(name: str) -> str:
    text = inspect.getdoc(ENTRIES[name].factory)
    assert text, f"{name} has no docstring"
    return text


def sections_of(text: str) -> dict[str, list[str]]:
    """The lines below each heading, in order; those before the first under an empty name."""
    result: dict[str, list[str]] = {"": []}
    current = ""
    for line in text.splitlines():
        heading = re.fullmatch(r"(\w[\w ]*):", line)
        if heading:
            current = heading[1]
            assert current not in result, f"{current!r} stands twice"
            result[current] = []
        else:
            result[current].append(line)
    return result


def described(name: str) -> dict[str, list[str]]:
    """The lines of each argument's description."""
    result: dict[str, list[str]] = {}
    current = ""
    for line in sections_of(docstring(name))["Args"]:
        argument = re.match(r" {2}\*{0,2}(\w+): ", line)
        if argument:
            current = argument[1]
            result[current] = []
        if line.strip():
            result[current].append(line)
    return result


def test_signatures_change_only_on_purpose() -> None:
    assert signatures.FILE.read_text() == signatures.render(), (
        "A signature changed. If that is wanted: `python -m tests.contract.signatures`"
    )


def test_the_power_threshold_has_two_names() -> None:
    assert clipax.power_threshold is clipax.thresholds.power


@EACH
def test_docstrings_begin_with_one_imperative_line(name: str) -> None:
    first, *rest = docstring(name).splitlines()
    assert first.endswith(".")
    assert rest[0] == ""
    verb = first.split()[0]
    assert verb[0].isupper()
    assert verb not in ("What", "Whether", "How", "The", "A", "An")
    assert not re.search(r"[^s]s$", verb), f"{verb!r} is no imperative"


@EACH
def test_docstrings_have_their_sections_in_order(name: str) -> None:
    sections = sections_of(docstring(name))
    names = [section for section in sections if section]
    assert names == [section for section in SECTIONS if section in sections]
    assert [section for section in names if section in COMPULSORY] == COMPULSORY
    assert all(any(line.strip() for line in sections[section]) for section in names)


@EACH
def test_no_line_of_a_docstring_is_a_filler(name: str) -> None:
    for line in docstring(name).splitlines():
        said = re.sub(r"^\s*(- |\w+Error: )?", "", line).rstrip(".")
        assert said not in FILLERS, line


@EACH
def test_docstrings_have_a_formula_or_the_composition_that_has_it(name: str) -> None:
    text = docstring(name)
    if not FORMULA.search(text):
        assert ENTRIES[name].kind == "transformation"
        assert COMPOSITION.search(text)
        assert len(text.splitlines()) <= LONGEST_LIFTED


@EACH
def test_docstrings_describe_every_argument(name: str) -> None:
    arguments = inspect.signature(ENTRIES[name].factory).parameters
    assert list(described(name)) == list(arguments)


@EACH
def test_shared_arguments_are_explained_in_one_place(name: str) -> None:
    if name == EXPLAINED_IN:
        return
    lines = described(name)
    usual = inspect.signature(ENTRIES[EXPLAINED_IN].factory).parameters
    own = inspect.signature(ENTRIES[name].factory).parameters
    for argument in SHARED:
        if argument in own:
            differs = own[argument].default != usual[argument].default
            most = 2 if differs or name in ENTRYWISE else 1
            assert len(lines[argument]) <= most, argument


@EACH
def test_docstrings_have_an_example_that_runs(name: str) -> None:
    assert any(">>> " in line for line in sections_of(docstring(name))["Example"])


@EACH
def test_a_paper_is_named_by_its_number(name: str) -> None:
    numbers = [PAPERS[key].arxiv for key in ENTRIES[name].papers]
    for number in filter(None, numbers):
        assert re.fullmatch(r"\d{4}\.\d{5}", number)
        assert number in docstring(name)


@EACH
def test_no_reference_is_rendered_as_a_list(name: str) -> None:
    # In reST a paragraph of one line that begins with "S. " is item 19 of a list.
    lines = [*docstring(name).splitlines(), ""]
    for line, following in pairwise(lines):
        if re.match(r"\s*(- )?[A-Z]\. ", line):
            assert following.strip(), line
            assert not following.lstrip().startswith("- "), line


def test_docstrings_stay_short() -> None:
    # Who looks a method up reads one screen, not three: what is said twice goes, a fact stays.
    lengths = [len(docstring(name).splitlines()) for name in ENTRIES]
    assert statistics.mean(lengths) < 32.6
    assert statistics.median(lengths) <= 31
