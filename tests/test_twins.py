"""A name of optax, of PyTorch or of a paper leads to the function of this package."""

from __future__ import annotations

import inspect
import operator
import re
from pathlib import Path

import optax
import optax.contrib
import pytest

import clipax
from clipax._twins import ARGUMENTS, TWINS

DOCS = Path(clipax.__file__).parents[1] / "docs"


@pytest.mark.parametrize(("name", "twin"), TWINS.items())
def test_the_error_names_the_twin(name, twin):
    assert callable(operator.attrgetter(twin)(clipax))
    call = f"{twin}(..., {ARGUMENTS[name]})" if name in ARGUMENTS else twin
    with pytest.raises(AttributeError) as caught:
        getattr(clipax, name)
    assert str(caught.value).endswith(f"{name!r}. `clipax.{call}` does that here.")
    assert not hasattr(clipax, name)


@pytest.mark.parametrize(("name", "given"), ARGUMENTS.items())
def test_the_arguments_of_a_twin_are_those_of_the_function(name, given):
    factory = operator.attrgetter(TWINS[name])(clipax)
    names = re.findall(r"(\w+)=", given)
    assert names
    assert set(names) <= set(inspect.signature(factory).parameters)


def test_the_clips_of_optax_are_here_or_have_a_twin():
    clips = {name for name in dir(optax) if "clip" in name}
    assert len(clips) >= 6
    for name in clips:
        assert hasattr(clipax, name) or name in TWINS


def test_those_of_optax_are_in_its_table():
    rows = (DOCS / "coming_from_optax.md").read_text().splitlines()
    for name, twin in TWINS.items():
        if name in dir(optax) or name in dir(optax.contrib):
            (row,) = (row for row in rows if re.match(rf"\| `.*\b{name}\b", row))
            assert f"| `{twin}(" in row


@pytest.mark.parametrize(
    ("name", "text"),
    [("clip_by_globl_norm", "Do you mean `clipax.clip_by_global_norm`?"), ("qqq", "'qqq'.")],
)
def test_other_names_are_missing_as_ever(name, text):
    with pytest.raises(AttributeError) as caught:
        getattr(clipax, name)
    assert str(caught.value).endswith(text)
    assert caught.value.name == name
