"""Warnings: clipax's own are errors everywhere, those of others only where pytest is told so."""

from __future__ import annotations

import warnings

import pytest


@pytest.mark.parametrize("category", [UserWarning, RuntimeWarning])
@pytest.mark.parametrize("module", ["clipax", "clipax.measure._measure"])
def test_what_clipax_warns_of_is_an_error(category: type[Warning], module: str) -> None:
    with pytest.raises(category, match="a word"):
        warnings.warn_explicit("a word", category, "file.py", 1, module=module)


@pytest.mark.parametrize(
    ("category", "module"),
    [
        (RuntimeWarning, "clipaxes"),
        (UserWarning, "flax.nnx"),
        (DeprecationWarning, "clipax.measure._measure"),
        (FutureWarning, "clipax.measure._measure"),
    ],
)
def test_a_warning_of_a_dependency_is_an_error_where_pytest_is_told_so(
    request: pytest.FixtureRequest, category: type[Warning], module: str
) -> None:
    with warnings.catch_warnings(record=True) as seen:
        if "error" in (request.config.getoption("pythonwarnings") or ()):
            with pytest.raises(category, match="a word"):
                warnings.warn_explicit("a word", category, "file.py", 1, module=module)
        else:
            warnings.warn_explicit("a word", category, "file.py", 1, module=module)
            assert [str(warning.message) for warning in seen] == ["a word"]


@pytest.mark.filterwarnings("ignore:a word")
def test_the_mark_of_a_test_comes_first() -> None:
    warnings.warn_explicit("a word", UserWarning, "file.py", 1, module="clipax")
    warnings.warn_explicit("a word", DeprecationWarning, "file.py", 1, module="flax.nnx")
