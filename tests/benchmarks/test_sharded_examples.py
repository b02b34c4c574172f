"""The examples, run as users run them: sharded, saved and resumed; in two processes."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.examples import train_sharded

ROOT = Path(__file__).parents[2]
TIMEOUT = 120  # seconds
# Another number of devices adds up in another order.
ROUNDING = 1e-5


@pytest.fixture
def one_device() -> None:
    """Nothing: here there are several."""


def _start(*arguments: str) -> subprocess.Popen[str]:
    flags = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-m", "benchmarks.examples.train_sharded", *arguments],
        cwd=ROOT,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def _outputs(*processes: subprocess.Popen[str]) -> list[str]:
    """What the processes printed; where one fails or hangs none is left, and all of it is shown."""
    outputs: list[tuple[str, str]] = []
    try:
        for process in processes:
            outputs.append(process.communicate(timeout=TIMEOUT))
    except subprocess.TimeoutExpired:
        pass  # its exit status, that of a process that was killed, tells
    finally:
        for process in processes:
            process.kill()
    outputs += [process.communicate() for process in processes[len(outputs) :]]
    if codes := [process.returncode for process in processes if process.returncode]:
        printed = "\n".join(text for both in outputs for text in both)
        pytest.fail(f"Exit statuses {codes} within {TIMEOUT} s:\n{printed}")
    return [printed for printed, _ in outputs]


def _rows(output: str) -> dict[int, np.ndarray]:
    """The table: four numbers by step."""
    lines = re.findall(r"^ *(\d+)((?: +[-+.e\d]+){4})$", output, re.MULTILINE)
    return {int(step): np.array(numbers.split(), np.float64) for step, numbers in lines}


def _value(output: str, label: str) -> list[str]:
    (line,) = [line for line in output.splitlines() if line.startswith(label)]
    return line.removeprefix(label).split()


@pytest.mark.thorough
def test_sharded_training_resumes_on_as_many_devices_and_on_half_of_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny = ("--width", "16", "--layers", "1", "--steps", "6")
    where = str(tmp_path / "checkpoint")
    train_sharded.main([*tiny, "--save", where, "--save-at", "3"])  # eight devices, as here
    through = capsys.readouterr().out
    half = _start(*tiny, "--devices", "4", "--resume", where)
    try:
        train_sharded.main([*tiny, "--resume", where])
    finally:
        (resumed,) = _outputs(half)
    expected, rows, same = _rows(through), _rows(resumed), _rows(capsys.readouterr().out)
    assert list(expected) == [1, 2, 3, 4, 5, 6]
    assert list(rows) == list(same) == [4, 5, 6]
    for step, row in rows.items():
        np.testing.assert_allclose(row, expected[step], rtol=ROUNDING)
        # All digits of a float32 are printed.
        np.testing.assert_array_equal(same[step], expected[step])
    losses, _, _, factors = np.array(list(expected.values())).T
    assert losses[-1] < losses[0]
    assert factors.min() < 1  # the clip had something to do
    # Parameters and optimizer state alike lie in parts; counters and norms are whole.
    for output, devices in ((through, 8), (resumed, 4)):
        _, parameters, _, optimizer = _value(output, "held by one device:")
        assert float(parameters.strip(",")) == pytest.approx(1 / devices, abs=0.01)
        assert float(optimizer) == pytest.approx(1 / devices, abs=0.02)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.mark.thorough
def test_two_processes_are_as_one(capsys: pytest.CaptureFixture[str]) -> None:
    address = f"127.0.0.1:{_free_port()}"
    tiny = ("--width", "16", "--layers", "1")
    shared = (*tiny, "--coordinator", address, "--processes", "2", "--devices", "1")
    pair = _outputs(*(_start(*shared, "--id", str(i)) for i in range(2)))
    train_sharded.main([*tiny])  # on eight devices, as all tests have
    alone = capsys.readouterr().out
    expected = _rows(alone)
    assert list(expected) == [1, 2, 3, 4, 5, 6]
    assert min(row[-1] for row in expected.values()) < 1
    memory = "memory of the clip:"
    assert _value(pair[0], memory) == _value(pair[1], memory)
    np.testing.assert_allclose(
        np.float64(_value(pair[0], memory)), np.float64(_value(alone, memory)), rtol=ROUNDING
    )
    for output in pair:
        assert "2 devices in 2 processes" in output
        rows, first = _rows(output), _rows(pair[0])
        assert rows.keys() == expected.keys()
        for step, row in rows.items():
            np.testing.assert_array_equal(row, first[step])
            np.testing.assert_allclose(row, expected[step], rtol=ROUNDING)
