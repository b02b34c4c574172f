"""The file of results: it survives interruptions, damage and other processes."""

from __future__ import annotations

import json
import os
import resource
import signal
from dataclasses import replace

import pytest

from clipax.lab._compare.results import MethodResult
from clipax.lab._compare.store import MemoryStore, ResultStore
from clipax.lab._errors import InputError
from tests.lab.compare.made_results import NORMS
from tests.lab.compare.test_results import RESULT

SETTINGS = {"steps": 10, "noise": "pareto:1.5", "learning_rates": None}
LINE = RESULT.to_json()
NAME = RESULT.method


@pytest.mark.parametrize("clip_fraction", [(0.5, 0.75), None])
def test_lines_are_strict_json_and_read_back_alike(clip_fraction):
    result = replace(RESULT, clip_fraction=clip_fraction)
    line = result.to_json()
    assert "Infinity" not in line
    assert MethodResult.from_record(json.loads(line)) == result


def test_results_are_kept_at_once_and_found_again(tmp_path):
    folder = tmp_path / "new" / "folder"
    ResultStore(folder, SETTINGS).add(RESULT)
    lines = (folder / "results.jsonl").read_text().splitlines()
    assert json.loads(lines[0]) == {"settings": SETTINGS}
    assert len(lines) == 2
    again = ResultStore(folder, SETTINGS)
    assert again.results == {NAME: RESULT}
    again.add(replace(RESULT, method="sgd"))
    assert list(ResultStore(folder, SETTINGS).results) == [NAME, "sgd"]


def test_a_line_cut_off_in_the_middle_is_dropped_and_the_file_mended(tmp_path):
    store = ResultStore(tmp_path, SETTINGS)
    store.add(RESULT)
    whole = store.path.read_bytes()
    for length in (1, 5, 40, len(LINE) - 1):
        store.path.write_bytes(whole + LINE.encode()[:length])
        again = ResultStore(tmp_path, SETTINGS)
        assert list(again.results) == [NAME]
        with again.hold():
            assert store.path.read_bytes() == whole
    # Only the end of the line is missing.
    store.path.write_bytes(whole.rstrip(b"\n"))
    assert ResultStore(tmp_path, SETTINGS).results == {NAME: RESULT}


def test_a_first_line_cut_off_counts_as_nothing(tmp_path):
    (tmp_path / "results.jsonl").write_text('{"settings": {"ste')
    ResultStore(tmp_path, SETTINGS).add(RESULT)
    assert ResultStore(tmp_path, SETTINGS).results == {NAME: RESULT}


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
    assert list(ResultStore(tmp_path, {**SETTINGS, "steps": 20}).results) == [NAME]


@pytest.mark.parametrize(
    "content",
    [
        b"hello\n",
        b"hello",
        b"\xff\xfe\n",
        b"\x00" * 100,
        b"[1]\n",
        b"[1]",
        b'{"settings": 3}\n',
        b"[" * 200_000 + b"\n",
        b'{"settings": NaN}\n',
        LINE.encode() + b"\n",
    ],
    ids=lambda content: repr(content[:12]),
)
def test_a_file_of_something_else_is_refused_and_kept(tmp_path, content):
    path = tmp_path / "results.jsonl"
    path.write_bytes(content)
    with pytest.raises(InputError, match="was not written by `clipax compare`, or is damaged"):
        ResultStore(tmp_path, SETTINGS)
    assert path.read_bytes() == content


LOSS = [[2.0, 0.25], [2.1, 0.3]]


def changed(**fields):
    """Return the line of a result with other fields; those of None are left out."""
    record = {**json.loads(LINE)["result"], **fields}
    return json.dumps({"result": {key: value for key, value in record.items() if value != "gone"}})


DAMAGE = {
    '{"norms": []}': "has norms that are no numbers",
    '{"norms": {"steps": [1]}}': "has norms that are no numbers",
    "nonsense": "is not JSON",
    "\x00\x00": "is not JSON",
    "{}": "has no result",
    "[]": "has no result",
    '{"result": []}': "has no result",
    "[" * 200_000: "is not JSON: nested too deeply",
    changed(seconds="gone"): "lacks the field seconds",
    changed(extra=1): "has an unknown field extra",
    changed(method=3): "must have a name as method",
    changed(method=""): "must have a name as method",
    changed(plain=""): "must have a name, or null as plain",
    changed(settings=[]): "must have pairs of a learning rate and a threshold as settings",
    changed(settings=3): "must have pairs of a learning rate and a threshold as settings",
    changed(settings=[[0.1]]): "must have pairs of a learning rate and a threshold as settings",
    changed(settings=[[0.1, "1"]]): "must have pairs of a learning rate and a threshold as sett",
    changed(settings=[[None, 1]]): "must have pairs of a learning rate and a threshold as setti",
    changed(chosen=7): "must have the place of a setting as chosen",
    changed(chosen=-1): "must have the place of a setting as chosen",
    changed(chosen=None): "must have the place of a setting as chosen",
    changed(seeds=[]): "must have whole numbers as seeds",
    changed(seeds=[4, 5.5]): "must have whole numbers as seeds",
    changed(points=7): "must have whole numbers as points",
    changed(scores=3): "must have a loss, and other numbers, for each seed and point as scores",
    changed(scores={}): "must have a loss, and other numbers, for each seed and point as scores",
    changed(scores={"loss": [[2.0, 0.25]]}): "must have a loss, and other numbers, for each seed",
    changed(scores={"loss": [[2.0, 0.25], [2.1]]}): "must have a loss, and other numbers, for eac",
    changed(scores={"loss": [[2.0, 0.25], [2.1, "x"]]}): "must have a loss, and other numbers, fo",
    changed(scores={"loss": [[2.0, 0.25], [2.1, True]]}): "must have a loss, and other numbers, f",
    changed(scores={"loss": LOSS, "rmse": 3}): "must have a loss, and other numbers, for each see",
    changed(scores={"loss": LOSS, "rmse": [[1, 2]]}): "must have a loss, and other numbers, for e",
    changed(validation_loss=[[1.0]]): "must have a loss for each setting and seed",
    changed(clip_fraction=[0.5]): "must have a share for each seed, or null as clip_fraction",
    changed(seconds=-1): "must have a number that is not negative as seconds",
    changed(seconds=None): "must have a number that is not negative as seconds",
    LINE.replace("1.5}", "NaN}"): "is not JSON: NaN",
    LINE.replace("1.5}", "1e999}"): "must have a number that is not negative as seconds",
    LINE.replace("1.5}", f"{'9' * 5000}}}"): "",
    changed(seconds=2.5): "has other results of clip_by_global_norm+sgd than a line before",
}


@pytest.mark.parametrize("line", DAMAGE, ids=range(len(DAMAGE)))
def test_a_damaged_line_is_named_and_nothing_is_written(tmp_path, line):
    path = tmp_path / "results.jsonl"
    before = json.dumps({"settings": SETTINGS}) + f"\n{LINE}\n\n{LINE}\n{line}\n"
    path.write_text(before)
    with pytest.raises(InputError) as error:
        ResultStore(tmp_path, SETTINGS)
    told = str(error.value)
    assert told.startswith(f"{path} is damaged: line 5 {DAMAGE[line]}")
    assert told.endswith("; remove this line to train its method again, or choose another --out.")
    assert path.read_text() == before
    # The advice holds; lines that are there twice are one.
    path.write_text("".join(before.splitlines(keepends=True)[:4]))
    assert ResultStore(tmp_path, SETTINGS).results == {NAME: RESULT}


def test_one_bad_byte_refuses_and_keeps_everything(tmp_path):
    store = ResultStore(tmp_path, SETTINGS)
    store.add(RESULT)
    whole = store.path.read_bytes()
    for place in range(0, len(whole) - 1, 7):
        damaged = whole[:place] + b"\xff" + whole[place + 1 :]
        store.path.write_bytes(damaged)
        with pytest.raises(InputError):
            ResultStore(tmp_path, SETTINGS)
        assert store.path.read_bytes() == damaged


def test_folders_that_cannot_be_used_are_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"output folder .*file cannot be used: File exists"):
        ResultStore(tmp_path / "file", SETTINGS)
    with pytest.raises(InputError, match="cannot be used: Not a directory"):
        ResultStore(tmp_path / "file" / "below", SETTINGS)
    (tmp_path / f"results.jsonl.{os.getpid()}.part").mkdir()
    store = ResultStore(tmp_path, SETTINGS)
    with pytest.raises(InputError, match="cannot be used: Is a directory"), store.hold():
        pass
    assert not (tmp_path / "results.lock").exists()


def test_a_file_that_is_a_folder(tmp_path):
    (tmp_path / "results.jsonl").mkdir()
    with pytest.raises(InputError, match="cannot be used: Is a directory"):
        ResultStore(tmp_path, SETTINGS)


def test_a_full_disk_keeps_what_was_there(tmp_path):
    store = ResultStore(tmp_path, SETTINGS)
    store.add(RESULT)
    before = store.path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 100, limits[1]))
    try:
        with pytest.raises(InputError, match="cannot be used: File too large"):
            store.add(replace(RESULT, method="sgd"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    assert store.path.read_bytes() == before
    assert sorted(os.listdir(tmp_path)) == ["results.jsonl"]


def test_looking_changes_nothing_and_what_another_saved_meanwhile_is_kept(tmp_path):
    first = ResultStore(tmp_path, SETTINGS)
    other = ResultStore(tmp_path, {**SETTINGS, "steps": 20})
    same = ResultStore(tmp_path, SETTINGS)
    first.add(RESULT)
    same.add(replace(RESULT, method="sgd"))
    assert list(ResultStore(tmp_path, SETTINGS).results) == [NAME, "sgd"]
    with pytest.raises(InputError, match=r"results of other settings \(steps: 10 there, 20 now\)"):
        other.add(RESULT)
    assert list(ResultStore(tmp_path, SETTINGS).results) == [NAME, "sgd"]


def test_norms_are_kept_beside_the_results(tmp_path):
    store = ResultStore(tmp_path, SETTINGS)
    with store.hold():
        store.set_norms(NORMS)
        store.add(RESULT)
    again = ResultStore(tmp_path, SETTINGS)
    assert (again.norms, list(again.results)) == (NORMS, [NAME])
    with pytest.raises(InputError, match="results of other settings"):
        ResultStore(tmp_path, {**SETTINGS, "steps": 20})


def test_a_store_in_memory_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = MemoryStore()
    with store.hold():
        store.set_norms(NORMS)
        store.add(RESULT)
    assert (store.norms, store.results) == (NORMS, {NAME: RESULT})
    assert os.listdir(tmp_path) == []
