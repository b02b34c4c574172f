"""The table, the remarks and the document of a comparison."""

from __future__ import annotations

import io
from dataclasses import replace

from rich.console import Console

from clipax.lab._compare.outcome import Comparison
from clipax.lab._compare.report import make_table, make_title, write_document, write_remarks
from clipax.lab._compare.settings import Settings
from tests.lab.compare.made_results import NORMS, RESULTS

SETTINGS = Settings(seeds=4, steps=20)


def shown(results, width):
    console = Console(file=io.StringIO(), width=width)
    console.print(make_table(results, "what was compared", width))
    return console.file.getvalue().splitlines()


def test_the_table_shows_medians_bands_shares_and_settings():
    lines = shown(RESULTS, 100)
    rows = {line.split()[0]: line.split()[1:] for line in lines if line.strip()}
    assert rows["clip_by_global_norm+sgd"] == [
        *("0.250", "0.115-0.385", "90.0", "4/4", "0", "65", "0.1", "0.5", "3")
    ]
    assert rows["delayed_clip_adagrad_norm"] == [
        *("0.650", "0.515-inf", "90.0", "-", "25", "-", "1*", "-", "3")
    ]
    assert rows["sgd"] == ["inf", "inf-inf", "-", "-", "100", "-", "0.1", "-", "3"]


def test_columns_that_would_be_empty_are_left_out():
    (first, *_) = RESULTS
    alone = replace(first, scores={"loss": first.loss})
    heading = shown([alone], 80)[1].split()
    assert heading == ["method", "loss", "5-95", "%", "clip", "%", "rate", "thresh.", "tried"]


def test_a_narrow_window_breaks_names_at_the_plus_and_never_numbers():
    found = Comparison("mine [/x] [bold]", SETTINGS, NORMS, tuple(RESULTS))
    console = Console(file=io.StringIO(), width=62)
    found.print(console)
    lines = [line.strip() for line in console.file.getvalue().splitlines()]
    assert max(map(len, lines)) <= 62
    assert any(line.startswith("clip_by_global_norm ") for line in lines)
    assert "+sgd" in lines
    assert any("0.250" in line for line in lines)
    # Names are no markup.
    assert any("mine [/x] [bold]" in line for line in lines)
    assert repr(found) == str(found)


def test_small_losses_and_whole_shares_are_written_plainly():
    small = replace(
        RESULTS[0], scores={"loss": ((1e-5, 2e-6),) * 4}, clip_fraction=(1.0, 1.0, 1.0, 1.0)
    )
    (row,) = [line.split() for line in shown([small], 100) if line.startswith("clip_by")]
    assert row[1:4] == ["2e-06", "2e-06-2e-06", "100"]


def test_the_title_says_task_and_noise():
    assert make_title("text, transformer", Settings()) == (
        "text, transformer: 1 % corrupt batches, noise 0.3 norm:pareto:3, 400 steps"
    )
    other = Settings(noise="none", corrupt=0, steps=7)
    assert make_title("mine", other) == "mine: no noise added, 7 steps"


def test_remarks_warn_of_edges_and_tell_of_divergence_and_equal_methods():
    found = write_remarks(RESULTS)
    assert found[0].startswith(
        "Warning: the best rate of delayed_clip_adagrad_norm, 1, is the largest tried; a larger"
    )
    assert found[1:] == [
        f"{result.method} diverged at learning rates 1 (1 of 2 runs)." for result in RESULTS
    ]
    smallest = replace(RESULTS[0], chosen=0)
    assert "is the smallest tried; a smaller one" in write_remarks([smallest])[0]
    twins = [RESULTS[0], replace(RESULTS[0], method="twin")]
    assert write_remarks(twins)[-1] == (
        "clip_by_global_norm+sgd and twin took the same steps at these settings."
    )
    lost = [RESULTS[2], replace(RESULTS[2], method="twin")]
    assert not any("same steps" in remark for remark in write_remarks(lost))


def test_the_document_holds_the_table_the_words_and_the_settings():
    text = write_document(RESULTS, "title", "mine", SETTINGS, ["What it says."])
    assert "| clip_by_global_norm+sgd | 0.250 | 0.115-0.385 | 90.0 | 4/4 | 0 | 65 |" in text
    for remark in write_remarks(RESULTS):
        assert f"- {remark}" in text
    for line in ("- task: mine", "- noise: norm:pareto:3", "- steps: 20", "(curves.png)"):
        assert line in text
    for line in ("# title", "What it says.", f"- `{RESULTS[0].python}`", "seeds 4 to 7"):
        assert line in text
