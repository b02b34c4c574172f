"""Results: quantiles that count diverged runs, and a file that survives interruptions."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from clipax.lab._compare.results import MethodResult, ResultStore, quantile
from clipax.lab._errors import InputError

INF = math.inf
RESULT = MethodResult(
    method="clip_sgd",
    learning_rates=(0.1, 1.0, 10.0),
    validation_loss=((0.5, 0.6), (0.2, 0.3), (INF, 9.0)),
    learning_rate=1.0,
    seeds=(4, 5),
    points=(0, 10),
    loss=((2.0, 0.25), (2.1, INF)),
    accuracy=((0.1, 0.9), (0.1, 0.0)),
    clip_fraction=(0.5, 0.75),
    seconds=1.5,
)
SETTINGS = {"steps": 10, "noise": "pareto:1.5", "learning_rates": None}


def test_quantiles_of_finite_values_are_numpys():
    values = np.random.default_rng(0).normal(size=9)
    for q in (0.0, 0.05, 0.3, 0.5, 0.95, 1.0):
        assert quantile(values, q) == pytest.approx(np.quantile(values, q))


@pytest.mark.parametrize(
    ("values", "q", "expected"),
    [
        ([1.0, INF, 2.0], 0.5, 2.0),
        ([1.0, INF], 0.5, INF),
        ([INF, INF], 0.5, INF),
        ([1.0, 2.0, 3.0, INF], 0.5, 2.5),
        ([1.0, 2.0, 3.0, INF], 0.95, INF),
        ([4.0], 0.05, 4.0),
    ],
)
def test_infinite_values_keep_their_place_in_quantiles(values, q, expected):
    assert quantile(values, q) == expected


def test_the_share_of_diverged_seeds():
    assert RESULT.diverged == 0.5
    assert RESULT.final_loss == (0.25, INF)


@pytest.mark.parametrize(("rate", "edge"), [(0.1, "smallest"), (1.0, None), (10.0, "largest")])
def test_rates_at_the_edge_are_told(rate, edge):
    assert replace(RESULT, learning_rate=rate).edge == edge


def test_a_single_rate_is_at_no_edge():
    assert replace(RESULT, learning_rates=(1.0,), validation_loss=()).edge is None


def test_results_are_sorted_by_loss_then_divergence_then_accuracy():
    good = replace(RESULT, loss=((2.0, 0.1), (2.0, 0.2)))
    lost = replace(RESULT, loss=((2.0, INF), (2.0, INF)), accuracy=((0.1, 0.0), (0.1, 0.0)))
    weak = replace(RESULT, accuracy=((0.1, 0.5), (0.1, 0.0)))
    assert sorted([lost, weak, RESULT, good], key=MethodResult.order) == [good, RESULT, weak, lost]


@pytest.mark.parametrize("clip_fraction", [(0.5, 0.75), None])
def test_lines_are_strict_json_and_read_back_alike(clip_fraction):
    result = replace(RESULT, clip_fraction=clip_fraction)
    line = result.to_json()
    assert "Infinity" not in line
    assert MethodResult.from_fields(json.loads(line)["result"]) == result


def test_results_are_kept_at_once_and_found_again(tmp_path):
    folder = tmp_path / "new" / "folder"
    ResultStore(folder, SETTINGS).add(RESULT)
    lines = (folder / "results.jsonl").read_text().splitlines()
    assert json.loads(lines[0]) == {"settings": SETTINGS}
    assert len(lines) == 2
    again = ResultStore(folder, SETTINGS)
    assert again.results == {"clip_sgd": RESULT}
    again.add(replace(RESULT, method="sgd"))
    assert list(ResultStore(folder, SETTINGS).results) == ["clip_sgd", "sgd"]


def test_a_line_cut_off_in_the_middle_is_dropped_and_the_file_mended(tmp_path):
    store = ResultStore(tmp_path, SETTINGS)
    store.add(RESULT)
    whole = store.path.read_bytes()
    store.path.write_bytes(whole + whole.splitlines()[1][:40])
    assert list(ResultStore(tmp_path, SETTINGS).results) == ["clip_sgd"]
    assert store.path.read_bytes() == whole


def test_other_settings_are_refused_and_the_differences_named(tmp_path):
    store = ResultStore(tmp_path, SETTINGS)
    store.add(RESULT)
    before = store.path.read_bytes()
    other = {**SETTINGS, "steps": 20, "learning_rates": [0.1]}
    expected = r"\(steps: 10 there, 20 now, learning_rates: each method's own there, \[0.1\] now\)"
    with pytest.raises(InputError, match=f"results of other settings {expected}"):
        ResultStore(tmp_path, other)
    assert store.path.read_bytes() == before


def test_other_settings_are_fine_as_long_as_nothing_is_finished(tmp_path):
    ResultStore(tmp_path, SETTINGS)
    store = ResultStore(tmp_path, {**SETTINGS, "steps": 20})
    store.add(RESULT)
    assert list(ResultStore(tmp_path, {**SETTINGS, "steps": 20}).results) == ["clip_sgd"]


@pytest.mark.parametrize(
    "content",
    [
        b"hello\n",
        b"\xff\xfe\n",
        b"[1]\n",
        b'{"settings": 3}\n',
        b'{"settings": {}}\n{"result": {"method": "sgd"}}\n',
        b'{"settings": {}}\nnonsense\n{}\n',
    ],
)
def test_a_file_of_something_else_is_refused_and_kept(tmp_path, content):
    path = tmp_path / "results.jsonl"
    path.write_bytes(content)
    with pytest.raises(InputError, match="was not written by `clipax compare`, or is damaged"):
        ResultStore(tmp_path, SETTINGS)
    assert path.read_bytes() == content


def test_folders_that_cannot_be_used_are_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"output folder .*file cannot be used: File exists"):
        ResultStore(tmp_path / "file", SETTINGS)
    with pytest.raises(InputError, match="cannot be used: Not a directory"):
        ResultStore(tmp_path / "file" / "below", SETTINGS)
    (tmp_path / "results.jsonl.part").mkdir()
    with pytest.raises(InputError, match="cannot be used: Is a directory"):
        ResultStore(tmp_path, SETTINGS)


def test_a_result_that_cannot_be_written_is_an_error_of_input(tmp_path):
    store = ResultStore(tmp_path, SETTINGS)
    store.path.unlink()
    store.path.mkdir()
    with pytest.raises(InputError, match="cannot be used: Is a directory"):
        store.add(RESULT)
