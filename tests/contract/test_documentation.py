"""Docstrings have all their sections, and factories the signatures that users rely on."""

from __future__ import annotations

import inspect
import re

import pytest

import clipax
from clipax.catalogue import ENTRIES, PAPERS

EACH = pytest.mark.parametrize("name", ENTRIES)
SECTIONS = [
    "Args",
    "Returns",
    "Guarantees",
    "Edge cases",
    "Sharding",
    "Raises",
    "Example",
    "References",
    "Differences from the paper",
]
# Positional arguments by name; "name=default" for keywords, which may be followed by more.
SIGNATURES = {
    "clip_sgd": "learning_rate, threshold, *, scope='global'",
    "normalized_sgd": "learning_rate, eps",
    "regularized_clip_sgd": "learning_rate, threshold, delta, *, weight_decay=None",
    "clip_adagrad_norm": "learning_rate, threshold, *, b_init=1.0, b1=None, delay=None",
    "clip_adam_norm": "learning_rate, threshold, *, b_init=1.0, b1=0.9, b2=0.999, delay=None",
    "clip_radagrad_norm": "learning_rate, threshold, *, b_init=1.0, reweight=1.0",
    "clip_adagrad": (
        "learning_rate, threshold, *, b_init=1e-2, delay=None, clip='global', weight_decay=None"
    ),
    "clip_adam": (
        "learning_rate, threshold, *, b_init=1e-3, b1=0.9, b2=0.999, delay=None, clip='global', "
        "weight_decay=None"
    ),
    "mixed_clip_sgd": (
        "learning_rate, max_step, *, nu=0.7, decay=0.999, response='hard', weight_decay=None"
    ),
    "momentum_clip_sgd": (
        "learning_rate, max_step, *, decay=0.9, response='hard', weight_decay=None"
    ),
    "acclip": "learning_rate, *, b1=0.9, b2=0.99, alpha=1.0, eps=1e-5",
    "clip_normalized_momentum": "learning_rate, threshold, *, decay=0.9",
    "normalized_momentum": "learning_rate, *, decay=0.9",
    "clipped_sstm": "smoothness, a, clip_constant",
    "clip_by_global_norm": "max_norm",
    "clip_by_leaf_norm": "threshold",
    "clip_by_group_norm": "threshold, *, labels=None, total=None",
    "clip_by_value": "threshold",
    "clip_by_smooth_norm": "threshold",
    "clip_by_regularized_norm": "threshold, delta",
    "normalize_by_global_norm": "eps",
    "scale_by_norm": "before=None, *, after=None, b1=None",
    "delay_updates": "delay",
    "skip_nonfinite": "inner",
    "skip_spikes": "inner, threshold=None",
    "scale_by_adagrad_norm": "*, b_init, b1=None, delay=None",
    "scale_by_adam_norm": "*, b_init, b1=0.9, b2=0.999, delay=None",
    "thresholds.quantile": "quantile, *, window=100",
    "thresholds.geometric_quantile": "quantile=0.5, *, initial=0.1, learning_rate=0.2, noise=None",
    "thresholds.rms_of_norms": "kappa, *, decay=0.99",
    "thresholds.max_ccc": "*, window=500",
    "thresholds.percentile": "percentile=10.0, *, window=1000",
    "thresholds.tail_power": "sigma=None, regime='design', *, warmup=500",
    "clip_by_percentile": "percentile=10.0, *, window=1000, scope='global'",
    "monitor_norms": "*, scope='global'",
    "thresholds.anytime": "sigma, alpha, regime='nonconvex', *, gamma=1.0",
    "thresholds.fixed_horizon": (
        "radius, learning_rate, steps, failure_probability, *, constant=0.5"
    ),
    "quantile_clip_sgd": "learning_rate, quantile, *, window=100",
    "max_ccc_sgd": "learning_rate, *, window=500",
    "thresholds.zscore": (
        "z=2.5, *, decay=0.97, warmup=25, cut_to='adaptive', max_norm=None, eps=1e-6"
    ),
    "thresholds.ema": "ratio=1.05, *, decay=0.98, warmup=100, absolute=1.0",
    "thresholds.median": "scale=2.0, *, window=100",
    "thresholds.relative": "clipping=0.01, *, eps=1e-3",
    "clip_by_zscore": (
        "z=2.5, *, decay=0.97, warmup=25, cut_to='adaptive', max_norm=None, eps=1e-6"
    ),
    "clip_by_ema": "ratio=1.05, *, decay=0.98, warmup=100, absolute=1.0",
    "clip_by_median": "scale=2.0, *, window=100",
    "clip_by_quantile": "quantile, *, window=100, scope='global'",
    "clip_by_param_norm": "clipping=0.01, *, eps=1e-3, exclude=None, stacked=None, scope='unit'",
    "clip_by_singular_values": "threshold, *, scope='leaf'",
    "with_error_feedback": "inner",
    "ggnc": "learning_rate, radius, *, norm='euclidean', b1=0.9",
    "clip_by_block_rms": "threshold=1.0, *, scope='leaf'",
    "stable_adamw": "learning_rate, *, b1=0.9, b2=0.99, eps=1e-6, weight_decay=None",
    "spam": (
        "learning_rate, *, b1=0.9, b2=0.999, eps=1e-8, theta=5000.0, reset=500, warmup=150, "
        "weight_decay=None"
    ),
    "stable_spam": (
        "learning_rate, *, b1=0.9, b2=0.999, eps=1e-8, norm_decay=0.7, square_decay=0.9, "
        "peak_decay=0.999, reset=1000, weight_decay=None"
    ),
    "thresholds.power": "sigma, alpha, regime='design'",
}


def _signature(text: str) -> list[inspect.Parameter]:
    scope: dict[str, object] = {}
    exec(f"def fixed({text}): ...", scope)
    return list(inspect.signature(scope["fixed"]).parameters.values())  # type: ignore[arg-type]


@pytest.mark.parametrize("name", SIGNATURES)
def test_signatures_are_fixed(name: str) -> None:
    actual = list(inspect.signature(ENTRIES[name].factory).parameters.values())
    fixed = _signature(SIGNATURES[name])
    for ours, wanted in zip(actual, fixed, strict=False):
        assert (ours.name, ours.kind, ours.default) == (wanted.name, wanted.kind, wanted.default)
    further = actual[len(fixed) :]
    assert len(actual) >= len(fixed)
    assert all(option.kind is inspect.Parameter.KEYWORD_ONLY for option in further)
    assert all(option.default is not inspect.Parameter.empty for option in further)


def test_every_transformation_and_optimizer_has_a_fixed_signature() -> None:
    named = {name for name, entry in ENTRIES.items() if entry.kind != "norm"}
    assert named == set(SIGNATURES)


def test_the_power_threshold_has_two_names() -> None:
    assert clipax.power_threshold is clipax.thresholds.power


@EACH
def test_docstrings_have_their_sections_in_order(name: str) -> None:
    text = inspect.getdoc(ENTRIES[name].factory)
    assert text
    first = text.splitlines()[0]
    assert first.endswith(".")
    assert first[0].isupper()
    assert ".. math::" in text
    found = re.findall(r"^(\S[^:\n]*):$", text, flags=re.MULTILINE)
    assert [section for section in found if section in SECTIONS] == SECTIONS


@EACH
def test_docstrings_describe_every_argument(name: str) -> None:
    text = inspect.getdoc(ENTRIES[name].factory) or ""
    described = text[text.index("Args:") : text.index("Returns:")]
    for argument in inspect.signature(ENTRIES[name].factory).parameters:
        assert re.search(rf"^ +\*?{argument}: ", described, flags=re.MULTILINE), argument


@EACH
def test_docstrings_have_an_example_that_runs(name: str) -> None:
    text = inspect.getdoc(ENTRIES[name].factory) or ""
    assert ">>> " in text[text.index("Example:") :]


@EACH
def test_a_paper_is_named_by_its_number(name: str) -> None:
    numbers = [PAPERS[key].arxiv for key in ENTRIES[name].papers]
    for number in filter(None, numbers):
        assert re.fullmatch(r"\d{4}\.\d{5}", number)
        assert number in (inspect.getdoc(ENTRIES[name].factory) or "")
