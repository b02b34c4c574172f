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
from tests.thorough import thorough

ROOT = Path(clipax.__file__).parent.parent
HOST = socket.gethostname()
# Takes the lock as soon as a file appears, tells whether it could, and holds it for the rest. The
# module alone is loaded, as the package takes seconds.
RACER = """
import importlib.util, pathlib, sys, types

def load(name):
    spec = importlib.util.spec_from_file_location(name, name.replace(".", "/") + ".py")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

for package in ("clipax", "clipax.lab", "clipax.lab._compare"):
    sys.modules[package] = types.ModuleType(package)
errors, lock = load("clipax.lab._errors"), load("clipax.lab._compare.lock")
folder = pathlib.Path(sys.argv[1])
print("ready", flush=True)
while not (folder / "go").exists():
    pass
held = lock.FolderLock(folder)
try:
    print("won", held.acquire(), flush=True)
    sys.stdin.read()
except errors.InputError as error:
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


def test_a_system_without_flock(tmp_path, monkeypatch):
    monkeypatch.setattr(lock_module, "fcntl", None)
    with FolderLock(tmp_path), pytest.raises(InputError, match=r"if it has ended, remove .*\.lock"):
        FolderLock(tmp_path).acquire()
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_to(tmp_path):
    (tmp_path / "results.lock").mkdir()
    with pytest.raises(IsADirectoryError):
        FolderLock(tmp_path).acquire()


def test_of_processes_that_start_at_once_one_wins_and_its_death_frees_the_folder(tmp_path):
    leave(tmp_path, pid="99999999")  # all of them find a lock that is stale
    racers = [start(tmp_path) for _ in range(6)]
    assert [racer.stdout.readline() for racer in racers] == ["ready\n"] * 6
    (tmp_path / "go").touch()
    words = [racer.stdout.readline().split(maxsplit=1) for racer in racers]
    (place,) = [place for place, (word, _) in enumerate(words) if word == "won"]
    assert words.pop(place)[1] == "process 99999999 (clipax compare)\n"
    winner = racers.pop(place)
    assert all(f"in use by process {winner.pid} on {HOST}" in told for _, told in words)
    winner.send_signal(signal.SIGKILL)
    winner.wait()
    for racer in (winner, *racers):
        racer.communicate()
    assert FolderLock(tmp_path).acquire().startswith(f"process {winner.pid} (-c ")


COMPARE = [sys.executable, "-m", "clipax", "compare", "--task", "wine", "--seeds", "1"]
COMPARE += ["--steps", "2", "--batch-size", "2", "--learning-rates", "0.1", "--methods"]
# Compiled in a hurry.
QUICK = {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_backend_optimization_level=0"}


@pytest.fixture(autouse=True)
def _children_can_be_interrupted():
    # Behind `&` or `nohup` Ctrl-C is ignored, by children too.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def run(folder, *words):
    return subprocess.Popen(
        [*COMPARE, *words, "--out", str(folder)],
        cwd=ROOT,
        env={**os.environ, **QUICK},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(process, holds):
    while not holds():
        assert process.poll() is None, process.communicate()
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


@pytest.mark.thorough
def test_of_two_at_once_one_is_refused_and_the_other_resumes_where_it_was_terminated(tmp_path):
    out = tmp_path / "out"
    scales = {}
    for scale in (0.5, 0.9):
        scales[run(out, "sgd,adam", "--noise-scale", str(scale))] = scale
    one, other = scales
    while one.poll() is None and other.poll() is None:
        time.sleep(0.01)
    winner, loser = (one, other) if one.poll() is None else (other, one)
    _, told = loser.communicate()
    assert loser.returncode == 2, told
    held = f"output folder {out} is in use by process {winner.pid} on {HOST} since"
    # One that is late finds the first result already.
    assert held in told or f"{out}/results.jsonl holds results of other settings" in told
    assert told.count("\n") == 1

    wait_for(winner, lambda: len((out / "results.jsonl").read_text().splitlines()) == 3)
    winner.send_signal(signal.SIGTERM)
    _, told = winner.communicate()
    assert winner.returncode == 143, told
    ending = f"Terminated. Finished methods are kept in {out}; the same command resumes.\n"
    assert told.endswith(ending)
    kept = (out / "results.jsonl").read_text()
    assert json.loads(kept.splitlines()[0])["settings"]["noise_scale"] == scales[winner]

    again = run(out, "sgd", "--noise-scale", str(scales[winner]))
    _, told = again.communicate()
    assert again.returncode == 0, told
    assert "kept from the last run: sgd\n" in told
    assert (out / "results.jsonl").read_text() == kept
    assert {path.name for path in out.iterdir()} == {"results.jsonl", "summary.md", "curves.png"}


@pytest.mark.parametrize("wait", thorough([0.3, 1.0], but=[0.3]))
def test_an_interruption_of_the_imports_has_no_traceback(tmp_path, wait):
    process = run(tmp_path / "out", "sgd")
    time.sleep(wait)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate()
    assert process.returncode == 130, told
    assert told.startswith("Interrupted.")
    assert told.count("\n") == 1
