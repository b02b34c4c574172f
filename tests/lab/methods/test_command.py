"""`clipax methods` lists, searches and shows the catalogue."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

import clipax
from clipax import cli
from clipax.catalogue import ENTRIES, PAPERS
from clipax.lab._methods.page import write_page
from clipax.lab._methods.search import find_exact, search


def run(capsys: Any, *words: str) -> tuple[int, str, str]:
    status = cli.main(["methods", *words])
    out, err = capsys.readouterr()
    return status, out, err


def test_the_list_has_every_method_once_and_fits_a_terminal(capsys: Any) -> None:
    status, out, err = run(capsys)
    assert (status, err) == (0, "")
    assert max(map(len, out.splitlines())) <= 80
    starts = [line.split(":")[0].strip() for line in out.splitlines() if line.startswith("  ")]
    for entry in ENTRIES.values():
        for name in (entry.name, *entry.variants):
            assert starts.count(name) == 1, name


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("ZClip", "clip_by_zscore"),
        ("zclip", "clip_by_zscore"),
        ("AutoClip", "clip_by_percentile"),
        ("AGC", "clip_by_param_norm"),
        ("AdaGC", "clip_by_ema"),
        ("delta-GClip", "regularized_clip_sgd"),
        ("adaptive_grad_clip", "clip_by_param_norm"),
        ("clip_grad_norm_", "clip_by_global_norm"),
        ("clip_by_zscore", "clip_by_zscore"),
        ("thresholds.zscore", "thresholds.zscore"),
        ("tail_power", "thresholds.tail_power"),
        ("GradientStabilizer", "norms.stabilize"),
        ("AGGC", "norms.band"),
        ("AdaNorm", "norms.band"),
        ("SkipStepOptimizer", "skip_spikes"),
        ("U-Clip", "with_error_feedback"),
        ("Clip21-SGD2M", "with_error_feedback"),
        ("AUTO-S", "clipped_grad"),
        ("PSAC", "clipped_grad"),
        ("clipped_grad", "clipped_grad"),
    ],
)
def test_a_usual_name_shows_its_method(word: str, name: str, capsys: Any) -> None:
    status, out, _ = run(capsys, word)
    assert status == 0
    assert out.startswith(f"clipax.{name} (")
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.parametrize(
    ("word", "given"),
    [
        ("AUTO-S", 'auto_s (response="normalize")'),
        ("AUTO-V", 'auto_v (response="normalize", eps=0.0)'),
        ("PSAC", 'psac (response="psac")'),
        ("U-Clip", 'uclip (memory="buffer")'),
        ("Clip21-SGD2M", "clip21_sgd2m (b1=0.9)"),
        ("AdaNorm", 'adanorm (low=1.0, high=float("inf"))'),
    ],
)
def test_the_head_of_a_page_names_the_arguments_of_a_usual_name(
    word: str, given: str, capsys: Any
) -> None:
    head = run(capsys, word)[1].split("\n\n")[1]
    assert head.startswith("Also  ")
    assert given in " ".join(head.split())


@pytest.mark.parametrize("name", ENTRIES)
def test_a_page_has_the_formula_the_papers_and_every_argument(name: str) -> None:
    entry = ENTRIES[name]
    text = " ".join(write_page(entry).split())
    assert " ".join(entry.formula.split()) in text
    for key in entry.papers:
        assert " ".join(PAPERS[key].title.split()) in text
    for argument in inspect.signature(entry.factory).parameters:
        assert f" {argument}: " in text
    assert "\\" not in text
    assert "State" in text
    assert ("does not recover from one huge" in text) == (
        entry.verdict != clipax.catalogue.RECOVERS
    )


def test_what_a_method_remembers_is_counted() -> None:
    assert "State 40 bytes for each norm" in " ".join(
        write_page(ENTRIES["clip_by_global_norm"]).split()
    )
    assert "2 times the parameters in float32" in write_page(ENTRIES["clip_adam"])


def test_a_word_searches_titles_and_authors(capsys: Any) -> None:
    status, out, _ = run(capsys, "heavy-tailed")
    assert status == 0
    assert "clip_adagrad_norm:" in out
    assert "clip_by_zscore" not in out
    assert {entry.name for entry in search("1905.03871")} == {"thresholds.geometric_quantile"}


def test_a_name_of_several_is_searched_and_one_of_none_is_an_error(capsys: Any) -> None:
    assert find_exact("clip") is None  # a rule here, a function of optax
    assert find_exact("momentum") is None
    assert len(search("momentum")) > 2
    status, out, err = run(capsys, "nonsense")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "'nonsense'" in err


def test_dir_shows_what_is_public_and_nothing_else() -> None:
    names = dir(clipax)
    assert "clip_by_zscore" in names
    assert [name for name in names if name.startswith("_")] == ["__version__"]
    for name in names:
        assert getattr(clipax, name) is not None
