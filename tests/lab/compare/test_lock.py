"""One comparison at a time in a folder: who holds it, who left it behind, and real processes."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

import clipax
from clipax.lab._compare import lock as lock_module
from clipax.lab._compare.lock import FolderLock
from clipax.lab._errors import InputError

ROOT = Path(clipax.__file__).parent.parent
HOST = socket.gethostname()
# Takes the lock as soon as a file appears, tells whether it could, and holds it for the rest.
RACER = """
import sys, time, pathlib
from clipax.lab._compare.lock import FolderLock
from clipax.lab._errors import InputError
folder = pathlib.Path(sys.argv[1])
print("ready", flush=True)
while not (folder / "go").exists():
    pass
lock = FolderLock(folder)
try:
    left = lock.acquire()
    print("won", left, flush=True)
    sys.stdin.read()
except InputError as error:
    print("lost", error, flush=True)
"""


def start(folder, code=RACER):
    return subprocess.Popen(
        [sys.executable, "-c", code, str(folder)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def leave(folder, **changed):
    """Write the lock of another process."""
    holder = {
        "pid": "1",
        "host": HOST,
        "started": "2026-01-01 00:00:00",
        "command": "clipax compare",
    }
    (folder / "results.lock").write_text(json.dumps({**holder, **changed}))


def test_the_holder_is_named_and_the_lock_goes_with_it(tmp_path):
    with FolderLock(tmp_path) as held:
        assert held.held
        told = rf"^output folder {tmp_path} is in use by process {os.getpid()} on {HOST} since "
        told += r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \(.+\); wait for it, or choose another --out\.$"
        with pytest.raises(InputError, match=told):
            FolderLock(tmp_path).acquire()
    assert not list(tmp_path.iterdir())
    assert not held.held
    held.release()
    assert FolderLock(tmp_path).acquire() is None


@pytest.mark.parametrize("content", [None, "", "{}", "[1]", "nonsense", "[" * 100_000, "\0" * 50])
def test_a_lock_left_behind_is_taken_over(tmp_path, content):
    leave(tmp_path)
    if content is not None:
        (tmp_path / "results.lock").write_text(content)
    with FolderLock(tmp_path) as lock:
        assert json.loads(lock.path.read_text())["pid"] == str(os.getpid())
    leave(tmp_path)
    assert FolderLock(tmp_path).acquire() == "process 1 (clipax compare)"


def test_a_lock_of_another_host_is_believed_until_it_is_removed(tmp_path):
    leave(tmp_path, host="elsewhere", pid="77")
    told = (
        rf"by process 77 on elsewhere since .*; if it has ended, remove {tmp_path}/results.lock\.$"
    )
    with pytest.raises(InputError, match=told):
        FolderLock(tmp_path).acquire()
    (tmp_path / "results.lock").unlink()
    assert FolderLock(tmp_path).acquire() is None


def test_a_file_system_without_locks(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError("no locks available")

    monkeypatch.setattr(lock_module.fcntl, "flock", refuse)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    with FolderLock(tmp_path), pytest.raises(InputError, match=f"process {os.getpid()} on"):
        FolderLock(tmp_path).acquire()
    leave(tmp_path, pid=str(ended.pid))
    assert FolderLock(tmp_path).acquire() == f"process {ended.pid} (clipax compare)"
    leave(tmp_path, host="elsewhere", pid=str(ended.pid))
    with pytest.raises(InputError, match="on elsewhere"):
        FolderLock(tmp_path).acquire()


def test_a_folder_that_cannot_be_written_to(tmp_path):
    (tmp_path / "results.lock").mkdir()
    with pytest.raises(IsADirectoryError):
        FolderLock(tmp_path).acquire()


def test_of_processes_that_start_at_once_one_wins_and_its_death_frees_the_folder(tmp_path):
    leave(tmp_path)  # all of them find a lock that is stale
    racers = [start(tmp_path) for _ in range(4)]
    assert [racer.stdout.readline() for racer in racers] == ["ready\n"] * 4
    (tmp_path / "go").touch()
    words = [racer.stdout.readline().split(maxsplit=1) for racer in racers]
    (place,) = [place for place, (word, _) in enumerate(words) if word == "won"]
    assert words.pop(place)[1] == "process 1 (clipax compare)\n"
    winner = racers.pop(place)
    assert all(f"in use by process {winner.pid} on {HOST}" in told for _, told in words)
    winner.send_signal(signal.SIGKILL)
    winner.wait()
    for racer in (winner, *racers):
        racer.communicate()
    assert FolderLock(tmp_path).acquire().startswith(f"process {winner.pid} (-c ")


COMPARE = [sys.executable, "-m", "clipax", "compare", "--data", "wine", "--seeds", "1"]
COMPARE += ["--steps", "2", "--batch-size", "2", "--learning-rates", "0.1", "--methods"]
# Compiled in a hurry.
QUICK = {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_backend_optimization_level=0"}


def run(folder, *words):
    return subprocess.Popen(
        [*COMPARE, *words, "--out", str(folder)],
        cwd=ROOT,
        env={**os.environ, **QUICK},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_two_comparisons_at_once_do_not_mix(tmp_path):
    out = tmp_path / "out"
    runs = [run(out, "sgd", "--threshold", threshold) for threshold in ("1", "9")]
    errors = [process.communicate()[1] for process in runs]
    statuses = [process.returncode for process in runs]
    settings, *results = map(json.loads, (out / "results.jsonl").read_text().splitlines())
    assert len(results) == 1
    # The other one was refused, by the lock or by the results of its winner.
    (loser,) = [place for place, status in enumerate(statuses) if status == 2]
    assert sorted(statuses) == [0, 2]
    assert settings["settings"]["threshold"] == (9.0, 1.0)[loser]
    assert "is in use by process" in errors[loser] or "results of other settings" in errors[loser]
    assert errors[loser].count("\n") == 1
    assert {path.name for path in out.iterdir()} == {"results.jsonl", "summary.md", "curves.png"}


def wait_for(process, holds):
    while not holds():
        assert process.poll() is None
        time.sleep(0.01)


def test_an_interruption_while_a_method_compiles(tmp_path):
    out = tmp_path / "out"
    process = run(out, "sgd,adam")
    wait_for(process, (out / "results.jsonl").exists)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate()
    assert process.returncode == 130, told
    ending = f"Interrupted. Finished methods are kept in {out}; the same command resumes.\n"
    assert told.endswith(ending)
    assert not (out / "results.lock").exists()


def test_a_comparison_that_is_terminated_resumes(tmp_path):
    out = tmp_path / "out"
    process = run(out, "sgd,adam")
    wait_for(process, (out / "results.jsonl").exists)
    wait_for(process, lambda: len((out / "results.jsonl").read_text().splitlines()) == 2)
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate()
    assert process.returncode == 143, told
    assert told.endswith(
        f"Terminated. Finished methods are kept in {out}; the same command resumes.\n"
    )
    kept = (out / "results.jsonl").read_text()
    again = run(out, "sgd")
    _, told = again.communicate()
    assert again.returncode == 0, told
    assert "kept from the last run: sgd\n" in told
    assert (out / "results.jsonl").read_text() == kept


@pytest.mark.parametrize("wait", [0.3, 1.0])
def test_an_interruption_of_the_imports_has_no_traceback(tmp_path, wait):
    process = run(tmp_path / "out", "sgd")
    time.sleep(wait)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate()
    assert process.returncode == 130, told
    assert told.startswith("Interrupted.")
    assert told.count("\n") == 1
