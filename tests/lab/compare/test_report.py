"""The table, the remarks and the summary of a comparison."""

from __future__ import annotations

import io
from dataclasses import replace

from rich.console import Console

from clipax.lab._compare.report import make_table, make_title, write_remarks, write_summary
from clipax.lab._compare.settings import Settings
from tests.lab.compare.made_results import RESULTS

SETTINGS = Settings(seeds=4, steps=20)


def shown(results, width):
    console = Console(file=io.StringIO(), width=width)
    console.print(make_table(results, SETTINGS))
    return console.file.getvalue().splitlines()


def test_the_table_shows_medians_bands_and_shares():
    lines = shown(RESULTS, 80)
    rows = {line.split()[0]: line.split()[1:] for line in lines if line.strip()}
    assert rows["clip_sgd"] == ["0.250", "0.115-0.385", "90.0", "90.0-90.0", "0", "65", "0.1"]
    assert rows["delayed_clip_adagrad_norm"] == [
        "0.650", "0.515-inf", "90.0", "13.5-90.0", "25", "-", "1*"
    ]  # fmt: skip
    assert rows["sgd"] == ["inf", "inf-inf", "0.0", "0.0-0.0", "100", "-", "0.1"]


def test_a_narrow_window_folds_names_and_never_numbers():
    lines = shown(RESULTS, 60)
    assert max(map(len, lines)) <= 60
    assert any("0.115-0.385" in line for line in lines)


def test_the_title_says_data_model_and_noise():
    assert make_title(Settings()) == "digits, mlp, gradient noise pareto:1.5, 600 steps"
    other = Settings(data="/some/where/mine.npz", noise="gaussian:2", noise_scale=0.5, steps=7)
    assert make_title(other) == "mine.npz, mlp, gradient noise gaussian:2, scale 0.5, 7 steps"
    assert make_title(Settings(noise="none")) == "digits, mlp, no gradient noise, 600 steps"


def test_remarks_warn_of_edges_and_tell_of_divergence_and_equal_methods():
    found = write_remarks(RESULTS)
    assert found[0].startswith(
        "Warning: the best rate of delayed_clip_adagrad_norm, 1, is the largest tried; a larger"
    )
    assert found[1:] == [
        f"{result.method} diverged at learning rates 1 (1 of 2 seeds)." for result in RESULTS
    ]
    smallest = replace(RESULTS[0], learning_rate=0.01)
    assert "is the smallest tried; a smaller one" in write_remarks([smallest])[0]
    twins = [RESULTS[0], replace(RESULTS[0], method="twin")]
    assert write_remarks(twins)[-1] == "clip_sgd and twin took the same steps at these settings."
    lost = [RESULTS[2], replace(RESULTS[2], method="twin")]
    assert not any("same steps" in remark for remark in write_remarks(lost))


def test_the_summary_holds_the_table_the_remarks_and_the_settings():
    text = write_summary(RESULTS, SETTINGS)
    assert "| clip_sgd | 0.250 | 0.115-0.385 | 90.0 | 90.0-90.0 | 0 | 65 | 0.1 |" in text
    for remark in write_remarks(RESULTS):
        assert f"- {remark}" in text
    for line in ("- noise: pareto:1.5", "- steps: 20", "- seeds: 4", "![", "(curves.png)"):
        assert line in text
    assert "seeds 4 to 7" in text
