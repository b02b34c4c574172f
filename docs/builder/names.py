"""The pages of the public names: one a module, and one a name that is no method."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from sphinx import addnodes
from sphinx.pycode import ModuleAnalyzer

import clipax
from clipax._twins import list_usual_names
from clipax.catalogue import ENTRIES

__all__ = ["Name", "add_anchors", "list_modules", "list_names", "list_pages", "write_usual_names"]

_COMMANDS = {"clipax.cli", "clipax.__main__"}


@dataclass(frozen=True)
class Name:
    """A public name.

    Attributes:
      module: The module that exports it.
      name: As it is called there.
      home: The full name under which it is documented.
      page: The page on which it is, by its path in `docs/` without the suffix.
    """

    module: str
    name: str
    home: str
    page: str

    @property
    def value(self) -> Any:
        """Return what has the name."""
        return getattr(importlib.import_module(self.module), self.name)


@cache
def list_modules() -> list[str]:
    """List the modules of the package without an underscore, the package first."""
    found = pkgutil.walk_packages(clipax.__path__, "clipax.", onerror=lambda name: None)
    public = [one.name for one in found if "._" not in one.name and one.name not in _COMMANDS]
    return ["clipax", *public]


def _list_exports(module: ModuleType) -> list[str]:
    names = getattr(module, "__all__", None) or vars(module)
    return sorted(
        name
        for name in names
        if not name.startswith("_") and not inspect.ismodule(getattr(module, name))
    )


def _is_own(value: Any) -> bool:
    return inspect.isroutine(value) or inspect.isclass(value)


@cache
def list_names() -> list[Name]:
    """List all public names; an object that several modules export has one home."""
    homes: dict[int, str] = {
        id(entry.factory): f"clipax.{entry.name}" for entry in ENTRIES.values()
    }
    names = []
    # The shortest name is the one to write.
    for module_name in sorted(list_modules(), key=lambda name: (name.count("."), name)):
        module = importlib.import_module(module_name)
        for name in _list_exports(module):
            value, full = getattr(module, name), f"{module_name}.{name}"
            home = homes.setdefault(id(value), full) if _is_own(value) else full
            entry = home.removeprefix("clipax.")
            page = f"method/{entry}" if entry in ENTRIES else f"api/{home}"
            names.append(Name(module_name, name, home, page))
    return names


def list_pages() -> dict[str, str]:
    """Return the pages by their path in `docs/`."""
    pages = {"api/index.rst": _write_index()}
    for module in list_modules():
        pages[f"api/{module}.rst"] = _write_module(module)
    for name in list_names():
        if name.page == f"api/{name.module}.{name.name}":
            pages[f"{name.page}.rst"] = _write_name(name)
    return pages


def write_usual_names(name: str) -> str:
    """Write what it is called elsewhere, and with which arguments it is that."""
    names = [
        f"``{usual}`` (``{given}``)" if given else f"``{usual}``"
        for usual, given in list_usual_names(name).items()
    ]
    return f":Called elsewhere: {', '.join(names)}" if names else ""


def _title(text: str) -> str:
    return f"{text}\n{'=' * len(text)}\n"


def _write_index() -> str:
    modules = "\n".join(f"   {module}" for module in list_modules())
    return f"""{_title("Reference")}
Every public name, module by module. :doc:`Methods </methods>` have pages of their own.

.. toctree::

{modules}
"""


def _write_module(module: str) -> str:
    parts = [_title(module), f".. automodule:: {module}", "   :no-members:", ""]
    # The names below are full ones.
    parts += [".. py:currentmodule:: None", ""]
    homes = {one.home: one.value for one in list_names() if one.module == module}
    described = [home for home, value in homes.items() if _is_own(value)]
    if described:
        parts += [".. autosummary::", "", *(f"   ~{home}" for home in described), ""]
    parts += [f"- `{home}`" for home in homes if home not in described]
    return "\n".join([*parts, ""])


def _write_name(name: Name) -> str:
    # An orphan: the contents beside each page list modules, not hundreds of names.
    head = f":orphan:\n\n{_title(name.home)}\n"
    value = name.value
    if inspect.isclass(value):
        members = ", ".join(_list_members(value))
        options = f"   :members: {members}\n" if members else ""
        return f"{head}.. autoclass:: {name.home}\n{options}"
    if usual := write_usual_names(name.name):
        head += f"{usual}\n\n"
    if inspect.isroutine(value):
        return f"{head}.. autofunction:: {name.home}\n"
    about = "\n".join(f"   {line}".rstrip() for line in _read_comment(name).splitlines())
    return f"{head}.. py:data:: {name.home}\n\n{about}\n"


def _list_members(value: type) -> list[str]:
    """List the methods and properties that are described; fields are so by the class."""
    fields = {*getattr(value, "_fields", ()), *getattr(value, "__dataclass_fields__", ())}
    kinds = (property, classmethod, staticmethod)
    return [
        name
        for name, member in vars(value).items()
        if not name.startswith("_")
        and name not in fields
        and (inspect.isroutine(member) or isinstance(member, kinds))
        and getattr(value, name).__doc__
    ]


def _read_comment(name: Name) -> str:
    """Read the text under a constant, in the module where it is assigned."""
    module = name.module
    while origin := _find_origin(module, name.name):
        module = origin
    comments = ModuleAnalyzer.for_module(module).find_attr_docs()
    return "\n".join(comments.get(("", name.name), []))


def _find_origin(module: str, name: str) -> str | None:
    """Return the module from which a module imports a name."""
    file = importlib.import_module(module).__file__
    assert file is not None
    for statement in ast.walk(ast.parse(Path(file).read_text())):
        if isinstance(statement, ast.ImportFrom) and name in {
            alias.asname or alias.name for alias in statement.names
        }:
            return statement.module
    return None


@cache
def _list_homes_by_file() -> dict[str, set[str]]:
    """Return for each module of the code the modules under which its names are documented."""
    found: dict[str, set[str]] = {}
    for name in list_names():
        if _is_own(name.value):
            homes = found.setdefault(name.value.__module__, set())
            homes.add(name.home.rpartition(".")[0])
    return found


def add_anchors(app: object, doctree: Any) -> None:
    """Let the links that lead from the code to a name's page find the name.

    Sphinx calls all names of a file by the module under which it met the first of them.
    """
    homes = {name.home: name.value for name in list_names() if _is_own(name.value)}
    for signature in doctree.findall(addnodes.desc_signature):
        for anchor in tuple(signature["ids"]):
            owner = anchor if anchor in homes else anchor.rpartition(".")[0]
            if owner in homes:
                rest = anchor.removeprefix(owner.rpartition(".")[0])
                modules = _list_homes_by_file()[homes[owner].__module__]
                others = sorted(f"{module}{rest}" for module in modules)
                signature["ids"] += [one for one in others if one != anchor]
