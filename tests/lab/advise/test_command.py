"""`clipax advise FILE` reads what trainers and loggers write."""

from __future__ import annotations

import gzip
import io
import json
from typing import Any

import numpy as np
import pytest

import clipax
from clipax import cli
from clipax.lab._advise.read import read_log
from clipax.lab._errors import InputError
from tests.thorough import thorough

NORMS = np.round(np.exp(np.random.default_rng(0).normal(0, 0.4, 60)), 6)
NORMS[30], NORMS[40], NORMS[50] = 80.0, 0.0, np.nan
ROWS = [{"step": 10 * place, "grad_norm": float(norm)} for place, norm in enumerate(NORMS)]
HF = {"best_metric": None, "log_history": [*ROWS, {"step": 600, "eval_loss": 2.0}]}


def _lines(write: Any) -> str:
    return "\n".join(write(row["step"], row["grad_norm"]) for row in ROWS)


FILES = {
    "trainer_state.json": json.dumps(HF),
    "rows.json": json.dumps(ROWS),
    "columns.json": json.dumps({key: [row[key] for row in ROWS] for key in ROWS[0]}),
    "rows.jsonl": _lines(lambda step, norm: json.dumps({"_step": step, "train": {"gnorm": norm}})),
    "text.csv": "iteration,loss,train/grad_norm\n"
    + _lines(lambda step, norm: f"{step},2.0,{norm}"),
    "text.tsv": "step\tGrad Norm\n" + _lines(lambda step, norm: f"{step}\t{norm}"),
    "printed.log": _lines(lambda step, norm: f"{{'step': {step}, 'grad_norm': '{norm}'}}\n 5%|#"),
    "megatron.log": "world size 8\n"
    + _lines(
        lambda step, norm: (
            f" [2026-01-01 10:00:01] iteration {step:8d}/  100000 | elapsed time per iteration "
            f"(ms): 51.3 | lm loss: 2.1E+00 | grad norm: {norm:.6f} | number of nan iterations: 0 |"
        )
    ),
    "equals.log": _lines(
        lambda step, norm: f"INFO train step={step} loss=2.5 gnorm={norm} lr=1e-4"
    ),
    "stdout.log": _lines(
        lambda step, norm: f"{{'step': {step}, 'loss': 0.5, 'grad_norm': {norm}}}"
    ),
    "boxed.log": _lines(
        lambda step, norm: f"{{'step': {step}, 'grad_norm': np.float32({norm}), 'lr': 1e-05}}"
    ),
    "arrays.log": _lines(
        lambda step, norm: f"step: {step} grad_norm: Array({norm}, dtype=float32) loss: 2"
    ),
    "fairseq.log": _lines(
        lambda step, norm: (
            "2026-01-01 10:00:00 | INFO | train_inner | "
            f'{{"epoch": 1, "update": {step / 1000}, "loss": "9.1", "num_updates": "{step}", '
            f'"gnorm": "{norm}", "clip": "0"}}'
        )
    ),
    "coloured.log": _lines(
        lambda step, norm: (
            f"\x1b[31mstep: {step}  \x1b[32mloss: 2.1 \x1b[33mgrad_norm: {norm}\x1b[0m"
        )
    ),
    "table.md": "| step | grad_norm |\n| --- | ---: |\n"
    + _lines(lambda step, norm: f"| {step} | {norm} |"),
    "aligned.txt": " step   grad_norm\n" + _lines(lambda step, norm: f"{step:5d}  {norm:10.6f}"),
    "pandas.json": json.dumps(
        {key: {str(at): row[key] for at, row in enumerate(ROWS)} for key in ROWS[0]}
    ),
    "spaces.log": _lines(lambda step, norm: f"step {step} loss 2.5 grad_norm {norm}"),
}


def run(capsys: Any, *words: Any) -> tuple[int, str, str]:
    status = cli.main([str(word) for word in words])
    out, err = capsys.readouterr()
    return status, out, err


@pytest.mark.parametrize("name", FILES)
def test_every_norm_is_read(name: str, tmp_path: Any) -> None:
    (tmp_path / name).write_text(FILES[name])
    series = clipax.advise(read_log(str(tmp_path / name))[0]).series
    np.testing.assert_array_equal(series.norms, NORMS)
    np.testing.assert_array_equal(series.steps, [row["step"] for row in ROWS])


@pytest.mark.parametrize("name", thorough(FILES, ["trainer_state.json", "text.csv", "stdout.log"]))
def test_what_is_in_a_file_is_found(name: str, tmp_path: Any, capsys: Any) -> None:
    (tmp_path / name).write_text(FILES[name])
    status, out, err = run(capsys, "advise", tmp_path / name, "--threshold", "1.0")
    assert (status, err) == (0, "")
    assert "60 norms, steps 0 to 590, logged every 10 steps" in out
    assert "1 of 60 steps (1.67 %) not finite (step 500)" in out
    assert "1 of 59 norms is 0" in out
    share = np.mean(NORMS[np.isfinite(NORMS)] > 1)
    assert f"The threshold 1 clips {100 * share:.3g} % of 59 finite steps" in out
    assert "the largest 80 (step 300)" in out
    assert "Spikes: 1 of 58 norms is more than 10 times" in out
    assert "clip_by_zscore" in out
    assert "(step 500)" in out.rpartition("longest stretch")[2]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "gzip", "windows"])
@pytest.mark.parametrize("name", ["rows.json", "rows.jsonl", "text.csv"])
def test_however_it_is_written(name: str, encoding: str, tmp_path: Any) -> None:
    file = tmp_path / name
    text = FILES[name]
    if encoding == "gzip":
        file.write_bytes(gzip.compress(text.encode()))
    elif encoding == "windows":
        file.write_bytes(text.replace("\n", "\r\n").encode())
    else:
        file.write_text(text, encoding=encoding)
    series = clipax.advise(read_log(str(file))[0]).series
    np.testing.assert_allclose(series.norms, NORMS, rtol=1e-6)
    np.testing.assert_array_equal(series.steps, [row["step"] for row in ROWS])


def test_thousands_and_separators_within_texts(tmp_path: Any) -> None:
    file = tmp_path / "log"
    file.write_text("step: 1,000 | grad_norm: 1,100.5\nstep: 2,000 | grad_norm: 3")
    assert [row["grad_norm"] for row in read_log(str(file))[0]] == [1100.5, 3.0]
    file.write_text('{"grad_norm": 1.0, "text": "a\u2028b"}\n{"grad_norm": 2.0}')
    assert len(read_log(str(file))[0]) == 2


def test_the_input_is_read(monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(map(str, NORMS))))
    status, out, _ = run(capsys, "advise", "-")
    assert status == 0
    assert "60 norms, steps 0 to 59." in out


def test_a_pattern_finds_norms_and_steps(tmp_path: Any, capsys: Any) -> None:
    file = tmp_path / "own.log"
    file.write_text("begin\n" + _lines(lambda step, norm: f"at {step} the length is <{norm}>"))
    status, _, err = run(capsys, "advise", file)
    assert (status, err.count("\n")) == (2, 1)
    assert "--pattern" in err
    _, out, _ = run(capsys, "advise", file, "--pattern", r"length is <(.*)>")
    assert "Read 60 of 61 lines" in out
    assert "60 norms, rows 0 to 59" in out
    _, out, _ = run(capsys, "advise", file, "--pattern", r"at (?P<step>\d+) .*<(?P<norm>.*)>")
    assert "60 norms, steps 0 to 590" in out


def test_a_column_is_chosen(tmp_path: Any, capsys: Any) -> None:
    file = tmp_path / "log.csv"
    file.write_text("step,a,b\n" + _lines(lambda step, norm: f"{step},1.0,{norm}"))
    status, _, err = run(capsys, "advise", file)
    assert status == 2
    assert "name it as --column" in err
    status, out, _ = run(capsys, "advise", file, "--column", "b")
    assert status == 0
    assert "the largest 80 (step 300)" in out


def test_several_columns_are_judged_side_by_side(tmp_path: Any, capsys: Any) -> None:
    file = tmp_path / "log.csv"
    file.write_text(
        "step,actor/grad_norm,critic/grad_norm\n"
        + _lines(lambda step, norm: f"{step},{norm},{2 * norm}")
    )
    picture = tmp_path / "norms.png"
    status, out, err = run(capsys, "advise", file, "--picture", picture)
    assert "`actor/grad_norm`: 60 norms" in out
    assert "with these norms (critic/grad_norm):" in out
    assert status == 2
    assert "--picture draws one column" in err
    status, out, _ = run(
        capsys, "advise", file, "--picture", picture, "--column", "actor/grad_norm"
    )
    assert status == 0
    assert out.rstrip().endswith(f"Written to {picture}")
    assert picture.stat().st_size > 10_000


def test_what_is_left_out_is_said(tmp_path: Any) -> None:
    file = tmp_path / "cut"
    file.write_text(FILES["rows.jsonl"] + '\n{"_step": 600, "tra')
    assert read_log(str(file))[1] == ["1 of 61 rows cannot be read: left out."]
    file.write_text(FILES["text.csv"] + "\n600,2")
    assert read_log(str(file))[1] == ["1 of 61 lines have other columns: left out."]


@pytest.mark.parametrize(
    ("text", "words", "said"),
    [
        ("", [], "is empty"),
        ("hello\nworld", [], "no norms in a form that is known"),
        ("hello 3", ["--pattern", "(unclosed"], "is no regular expression"),
        ("hello 3", ["--pattern", "hello"], "must have a group"),
        ("hello 3", ["--pattern", r"bye (\d)"], "fits none of the 1 lines"),
        ("1\n2\n-3", [], "which are not negative"),
        ("1\n2\n3", ["--threshold", "-1"], "--threshold must be positive"),
        ("1\n2\n3", ["--quantile", "2"], "--quantile must be in (0, 1)"),
        ("1\n2\n3", ["--column", "a"], "--column must be None where"),
        ('{"loss": [1.0, 2.0]}', [], "must have a column of gradient norms"),
        ("1\n2\n3", ["--picture", "norms.unknown"], "cannot be written"),
    ],
)
def test_bad_input_ends_with_one_line(
    text: str, words: list[str], said: str, tmp_path: Any, capsys: Any, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "log").write_text(text)
    status, _, err = run(capsys, "advise", "log", *words)
    assert (status, err.count("\n")) == (2, 1)
    assert said.lower() in err.lower()


def test_a_file_that_is_not_there(capsys: Any) -> None:
    status, _, err = run(capsys, "advise", "no such file")
    assert (status, err.count("\n")) == (2, 1)
    assert "cannot be read" in err


def test_event_files_need_tensorboard(tmp_path: Any, monkeypatch: Any) -> None:
    monkeypatch.setitem(
        __import__("sys").modules, "tensorboard.backend.event_processing.event_accumulator", None
    )
    with pytest.raises(InputError, match="pip install tensorboard"):
        read_log(str(tmp_path))


def test_event_files_are_read(tmp_path: Any) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    writer = EventFileWriter(str(tmp_path))
    for row in ROWS:
        value = Summary.Value(tag="train/grad_norm", simple_value=row["grad_norm"])
        writer.add_event(Event(step=row["step"], summary=Summary(value=[value])))
    writer.close()
    history, _ = read_log(str(tmp_path))
    assert [row["step"] for row in history] == [row["step"] for row in ROWS]
    np.testing.assert_allclose([row["train/grad_norm"] for row in history], NORMS, rtol=1e-6)
