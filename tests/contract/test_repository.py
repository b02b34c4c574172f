"""The repository keeps its own rules: every method has its tests, and rooms import downwards."""

from __future__ import annotations

import ast
import importlib
import inspect
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import optax
import pytest

import clipax
from clipax.catalogue import ENTRIES, Entry
from tests.contract.cases import BASIC, CASES, REPRESENTATIVES, TWINS, case_of
from tests.contract.gradients import flatten
from tests.contract.harness import assert_close, problem, run
from tests.oracles import ORACLES, Tree, Updates, _registry, _tree
from tests.oracles._registry import oracle

PACKAGE = Path(clipax.__file__).parent
TOP = ("lab", "cli", "__main__")
# The rows of CONTRIBUTING's table: rooms of one level, which do not import each other. The modules
# of one room may.
LEVELS: list[list[set[str]]] = [
    [{"_validate", "_typing", "_export", "_compat", "_platforms", "_interruption"}],
    [{"_statistics"}],
    [{"scopes"}, {"_states"}],
    [{"measure"}],
    [{"thresholds"}],
    [{"norms"}],
    [{"engine"}],
    [{"transforms"}],
    [{"optimizers"}],
    [{"_clips", "_metrics"}, {"_carry_over", "_links"}],
    [{"per_example"}, {"diagnostics"}, {"theory"}, {"testing"}],
    [{"catalogue"}],
    [{"__init__", "_twins"}],
    [set(TOP), {"integrations"}],
]
ROOMS = {
    module: (level, place)
    for level, rooms in enumerate(LEVELS)
    for place, room in enumerate(rooms)
    for module in room
}
# Public names that are no methods: types, building blocks, and functions that read or describe.
HELPERS = {
    "clipax": {
        "CarriedOver",
        "advise",
        "block_names",
        "carry_over",
        "clipped_grad",
        "clipped_sstm_eval_params",
        "clipped_value_and_grad",
        "global_norm",
        "metrics",
    },
    "clipax.thresholds": {
        "Context",
        "Threshold",
        "as_threshold",
        "quantile_schedule",
        "block_rms",
    },
    "clipax.norms": {"Decision", "NormRule", "chain", "delay", "identity", "observe"},
    "clipax.scopes": {"Block", "Scope", "by_label", "exclude", "stacked", "unit"},
    "clipax.transforms": set(),
    "clipax.per_example": {
        "ClippedGrad",
        "ExampleStats",
        "clipped_grad",
        "clipped_value_and_grad",
        "current_threshold",
        "noise_split",
    },
    "clipax.diagnostics": {
        "Advice",
        "LocalSmoothness",
        "SmoothnessFit",
        "SmoothnessRecorder",
        "TailShares",
        "advise",
        "fit_smoothness",
        "gradient_noise",
        "local_smoothness",
        "norm_quantiles",
        "tail_index",
        "tail_shares",
    },
    "clipax.optimizers": {"clipped_sstm_eval_params"},
    "clipax.testing": {
        "BREAKS",
        "DELAYED",
        "DIES",
        "FAULTS",
        "Fault",
        "RECOVERS",
        "Report",
        "Row",
        "StepByStep",
        "assert_clips",
        "inject_faults",
    },
    "clipax.theory": {
        "ClipAdagradNormParameters",
        "ClipAdamNormParameters",
        "ClipNormalizedMomentumParameters",
        "ClipRadagradNormParameters",
        "ClipSgdParameters",
        "NormalizedSgdParameters",
        "OffsetClipSgdParameters",
        "SgdParameters",
        "clip_adagrad_norm_convex",
        "clip_adagrad_norm_nonconvex",
        "clip_adam_norm_convex",
        "clip_adam_norm_nonconvex",
        "clip_normalized_momentum_nonconvex",
        "clip_radagrad_norm_convex",
        "clip_sgd_any_threshold",
        "clip_sgd_bounded_noise",
        "clip_sgd_convex",
        "clip_sgd_practical",
        "clip_sgd_smooth",
        "clip_sgd_tight",
        "clipping_bias",
        "normalized_sgd_tight",
        "quantile_clipping_bias",
        "sgd_smooth",
    },
    "clipax.theory.dynamics": {
        "ClipSgdSchedules",
        "ClippingSchedule",
        "LabelNoise",
        "ReductionFactors",
        "cauchy_noise",
        "clipping_comparison",
        "clipping_stability",
        "empirical_noise",
        "gaussian_noise",
        "homogenized_paths",
        "homogenized_risk",
        "laplace_noise",
        "max_ccc_schedule",
        "max_ccc_threshold",
        "mixture_noise",
        "proportional_schedule",
        "rademacher_noise",
        "reduction_factors",
        "student_t_noise",
        "uniform_noise",
    },
}


def public_names(module: ModuleType) -> set[str]:
    """The names that a module exports: its `__all__`, or what an `__init__` imports."""
    names = getattr(module, "__all__", None) or vars(module)
    return {name for name in names if not name.startswith("_")}


def test_every_method_has_an_oracle() -> None:
    assert set(ENTRIES) == set(ORACLES)


def test_a_method_has_one_oracle_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_registry, "ORACLES", {})
    assert oracle("one", "other")(sum) is sum
    assert {"one": sum, "other": sum} == _registry.ORACLES
    with pytest.raises(ValueError, match="`other` has an oracle already"):
        oracle("other")(sum)


def test_a_case_needs_an_entry_and_an_oracle_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def half_sgd(learning_rate: float) -> optax.GradientTransformation:
        return optax.sgd(learning_rate / 2)

    def reference(gradients: Sequence[Tree], params: Tree, *, learning_rate: float) -> Updates:
        return [_tree.scale(-learning_rate / 2, gradient) for gradient in gradients]

    monkeypatch.setitem(ORACLES, "half_sgd", reference)
    entry = Entry("half_sgd", half_sgd, "optimizer", "x <- x - eta g/2", (), {"learning_rate": 0.5})
    case = case_of(entry, {})
    params, gradients = problem()
    updates, _ = run(case.make().update, case.make().init(params), gradients, params)
    expected = case.reference([flatten(gradient) for gradient in gradients], flatten(params))
    assert_close([flatten(update) for update in updates], expected)


def test_every_method_has_a_case() -> None:
    assert set(ENTRIES) == set(BASIC) | set(TWINS)
    assert BASIC.keys() <= CASES.keys()


@pytest.mark.parametrize("name", TWINS)
def test_a_twin_is_the_named_transformation(name: str) -> None:
    named, scope = TWINS[name]
    # The first by its place: `clip_by_global_norm` calls it as optax does.
    (_, first), *others = ENTRIES[name].example.items()
    rest = dict(others)
    block = ENTRIES[name].factory(first, **rest)
    if ENTRIES[name].kind == "threshold":
        block = clipax.norms.clip(block)
    params, (gradient, *_) = problem()
    programs = [
        str(jax.make_jaxpr(tx.update)(gradient, tx.init(params), params))
        for tx in (
            clipax.scale_by_norm(block, scope=scope),
            ENTRIES[named].factory(first, **rest),
        )
    ]
    assert programs[0] == programs[1]


def test_every_kind_is_represented_in_full() -> None:
    kinds = {CASES[name].entry.kind for name in REPRESENTATIVES}
    assert kinds == {entry.kind for entry in ENTRIES.values()}


@pytest.mark.parametrize("name", ENTRIES)
def test_an_entry_agrees_with_itself(name: str) -> None:
    entry = ENTRIES[name]
    assert entry.name == name
    room, _, function = name.rpartition(".")
    assert getattr(importlib.import_module(f"clipax.{room}" if room else "clipax"), function) is (
        entry.factory
    )
    assert entry.summary
    assert "\n" not in entry.summary
    assert entry.formula
    assert "\n" not in entry.formula


@pytest.mark.parametrize("module", HELPERS)
def test_every_public_name_is_a_method_or_a_known_helper(module: str) -> None:
    room = importlib.import_module(module)
    methods = [entry.factory for entry in ENTRIES.values()]
    others = set()
    for name in public_names(room):
        public = getattr(room, name)
        if public not in methods and not (inspect.ismodule(public) or name.endswith("State")):
            others.add(name)
    assert others == HELPERS[module], (
        "A public name is neither an entry of the catalogue nor listed in HELPERS."
    )


@pytest.mark.parametrize("name", ENTRIES)
def test_every_method_is_public(name: str) -> None:
    room, _, function = name.rpartition(".")
    module = importlib.import_module(f"clipax.{room}" if room else "clipax")
    assert function in public_names(module)


def test_no_function_hides_a_module_of_its_name() -> None:
    for path in _modules():
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        if parts[-1] in ("__init__", "__main__"):
            parts = parts[:-1]
        parent: Any = clipax
        for name in parts[1:]:
            importlib.import_module(f"{parent.__name__}.{name}")
            parent = getattr(parent, name)
            assert inspect.ismodule(parent), f"`import {'.'.join(parts)}` gives {parent!r}"


def _modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def _room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def _imports(path: Path) -> Iterator[str]:
    """Dotted names of all that a file imports, wherever in the file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", _modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_rooms_import_downwards(path: Path) -> None:
    here = _room(path)
    assert here in ROOMS, f"{here} has no place in the table of rooms"
    for name in _imports(path):
        root, *rest = name.split(".")
        if root != "clipax":
            continue
        # What is no module of the package is a name of its top, which stands above the rooms.
        there = rest[0] if rest and rest[0] in ROOMS else "__init__"
        downwards = ROOMS[there][0] < ROOMS[here][0]
        assert downwards or ROOMS[there] == ROOMS[here], f"{here} imports {name}"


@pytest.mark.parametrize(
    "path",
    [path for path in _modules() if _room(path) not in TOP],
    ids=lambda path: str(path.relative_to(PACKAGE)),
)
def test_the_library_needs_jax_numpy_and_optax_alone(path: Path) -> None:
    allowed = {"clipax", "jax", "numpy", "optax", *sys.stdlib_module_names}
    assert {name.split(".")[0] for name in _imports(path)} <= allowed
