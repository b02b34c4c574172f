"""`help()` of every public name is plain text: no markup that only a site could show."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import pydoc
import re
from collections.abc import Iterator
from typing import Any

import pytest

import clipax

MODULES = [
    clipax.__name__,
    *(
        module.name
        for module in pkgutil.walk_packages(clipax.__path__, "clipax.", onerror=lambda name: None)
        if "._" not in module.name and module.name != "clipax.integrations.keras"  # needs Keras
    ),
]
# Roles and directives, commands of LaTeX, the lines of a table, code between two marks.
MARKUP = re.compile(r":\w+:`|^\s*\.\. |\\[a-zA-Z]{2}|\\[|{,]|\$|^\s*[=+-]{4,}|``|::$", re.MULTILINE)


def list_described(module: Any) -> Iterator[tuple[str, Any]]:
    """The functions and classes of a module, and what is public in these classes."""
    for name, value in vars(module).items():
        if name.startswith("_") or not (inspect.isroutine(value) or inspect.isclass(value)):
            continue
        if not value.__module__.startswith("clipax"):
            continue
        yield name, value
        if inspect.isclass(value):
            for member, one in vars(value).items():
                if not member.startswith("_") and (callable(one) or isinstance(one, property)):
                    yield f"{name}.{member}", one


@pytest.mark.parametrize("name", MODULES)
def test_help_has_no_markup(name: str) -> None:
    module = importlib.import_module(name)
    texts = dict(list_described(module)) | {name: module}
    marked = {}
    for described, value in texts.items():
        text = inspect.getdoc(value) or ""
        if found := MARKUP.findall(text):
            marked[described] = found
    assert not marked


def test_help_shows_a_formula_on_lines_of_its_own() -> None:
    lines = pydoc.plain(pydoc.render_doc(clipax.clip_by_global_norm)).splitlines()
    assert "        u = min(1, c/n) g,  n = ||g||" in lines
