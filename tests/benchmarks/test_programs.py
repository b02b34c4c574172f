"""Programs for TPUs and GPUs: what is counted in them and judged, and how they are asked for."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError
from typing import Any, NamedTuple

import jax
import pytest

from benchmarks import command
from benchmarks.harness import hlo, records, targets
from benchmarks.harness.records import MISSED, Row
from benchmarks.harness.suite import Suite
from benchmarks.suites import pods, programs
from benchmarks.suites.peers import PEERS, list_compared
from clipax.catalogue import ENTRIES
from tests.benchmarks import accelerators


class _Compiled(NamedTuple):
    text: str

    def as_text(self) -> str:
        return self.text

    def memory_analysis(self) -> Any:
        return type("Analysis", (), {"temp_size_in_bytes": 7})


def test_kernels_of_a_gpu_are_launches() -> None:
    found = hlo.count(_Compiled(accelerators.KNOWN))
    # The sum's two, the flag's, the update's, a copy; two for each run of the loop's body. None of
    # the conditional's branches.
    assert found.kernels == 5 + 5 * 2
    assert (found.conditionals, found.open_loops, found.reductions) == (1, 0, 1)
    leaf = 4 * 8192
    loop = 5 * (2 * leaf + 2 * 4)
    sums = leaf + 2 * 4 * 64 + 4 + (4 + 1)
    assert found.bytes_accessed == sums + loop + (3 * leaf + 4) + 2 * 4


def test_a_loop_of_unknown_length_makes_the_host_wait() -> None:
    found = hlo.count(_Compiled(accelerators.OPEN))
    assert (found.open_loops, found.kernels) == (1, 5 + 2)


def test_what_lies_on_the_chip_of_a_tpu_is_no_traffic() -> None:
    found = hlo.count(_Compiled(accelerators.TPU))
    # Each leaf to the chip and back once, though it is read there twice.
    assert found.bytes_accessed == 2 * 4 * 1024 + 2 * 2 * 64 * 128
    assert found.kernels == 4  # transfers are none


def test_scalars_of_collectives_are_their_operands() -> None:
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    params = targets.place(
        [jax.ShapeDtypeStruct((64,), "float32")] * 3, mesh, lambda leaf: jax.P("data")
    )
    compiled = targets.compile(lambda tree: [leaf.sum() for leaf in tree], params)
    found = hlo.count(compiled.program)
    assert (found.collectives, found.scalars) == (1, 3)
    assert compiled.seconds > 0


@pytest.fixture
def no_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(targets, "version", version)


@pytest.mark.usefixtures("no_packages")
def test_missing_packages_are_named() -> None:
    names = r"needs libtpu, .* libtpu jax-cuda12-plugin==\S+ jax-cuda12-pjrt=="
    with pytest.raises(ValueError, match=names):
        targets.prepare("tpu")


def test_packages_of_another_version_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets, "version", lambda name: "0.1.0")
    with pytest.raises(ValueError, match=f"must be {jax.__version__} as JAX, got 0.1.0"):
        targets.prepare("gpu")


def test_every_method_is_compared() -> None:
    compared = list_compared()
    assert compared.keys() > ENTRIES.keys()
    for name, one in compared.items():
        assert one.peer in {"", *PEERS}, name
        assert one.peer or name.startswith(("clip_by_singular_values", "ggnc, spectral")), name
    assert [name for name, one in compared.items() if one.branches] == [
        "clip_by_singular_values, svd",
        "ggnc, spectral, svd",
    ]


WHERE = {"tree": "leaf", "dtype": "f32"}
OURS: Row = {
    "method": "clip_by_global_norm",
    "peer": "clip_by_global_norm",
    "limit": 4.0,
    "kernels": 6,
    "waits": 0,
    "traffic": 4.01,
    "temporaries": 0.01,
}
THEIRS: Row = {
    "method": "peer: clip_by_global_norm",
    "kernels": 4,
    "waits": 0,
    "traffic": 4.0,
    "temporaries": 0.0,
}


@pytest.mark.parametrize(
    ("change", "missed"),
    [
        ({}, []),
        ({"kernels": 7}, ["kernels"]),
        ({"tree": "layers"}, ["kernels"]),
        ({"tree": "layers", "kernels": 4}, []),
        ({"waits": 1}, ["waits of the host"]),
        ({"traffic": 4.1}, ["traffic, P"]),
        ({"traffic": 4.1, "limit": 5.0}, ["traffic, P"]),
        ({"traffic": 4.1, "limit": 4.1, "peer traffic": 4.1}, []),
        ({"traffic": 8.0, "limit": 8.0, "peer waits": 1, "target": "tpu"}, []),
        ({"traffic": 8.1, "limit": 8.0, "peer waits": 1, "target": "tpu"}, ["traffic, P"]),
        ({"method": "clip_by_ema", "kernels": 8}, ["kernels"]),
        ({"temporaries": 0.03}, ["temporaries, P"]),
        ({"temporaries": 0.03, "peer temporaries": 0.02}, []),
        ({"method": "clip_by_singular_values, svd", "waits": 1}, []),
        ({"method": "clip_by_singular_values", "waits": 1}, ["waits of the host"]),
        ({"method": "a chain of three", "tree": "layers"}, []),
        ({"target": "tpu", "kernels": 99}, []),
        ({"target": "tpu", "waits": 1}, ["conditionals"]),
        ({"target": "tpu", "traffic": 4.1}, ["traffic, P"]),
        ({"target": "tpu", "traffic": 4.1, "tree": "layers"}, []),
        ({"target": "tpu", "temporaries": 0.03, "peer temporaries": 0.02}, ["temporaries, P"]),
        ({"target": "tpu", "temporaries": 0.03, "tree": "layers"}, ["temporaries, P"]),
    ],
)
def test_figures_to_reach(change: Row, missed: list[str]) -> None:
    target = change.get("target", "gpu")
    rows = _beside(change)
    (joined,) = programs.join(rows)
    findings = [one for one in programs.judge_row(joined, target) if one.verdict == MISSED]
    assert [one.figure for one in findings] == missed
    for one in programs.judge(rows, f"{target}: H200"):
        assert (one.verdict == MISSED) == (one.figure in missed)
        assert (rows[1]["method"] in one.where) == (one.figure in missed)


@pytest.mark.parametrize(
    ("change", "more"),
    [
        ({"traffic": 5.0, "limit": 5.0}, {"traffic": 5.1}),
        ({"method": "clip_by_ema", "kernels": 8}, {"kernels": 9}),
        ({"method": "clip_by_ema", "kernels": 4, "tree": "layers"}, {"kernels": 5}),
        ({"method": "skip_spikes", "kernels": 8, "tree": "layers"}, {"kernels": 9}),
        (
            {"target": "tpu", "temporaries": 0.03, "peer temporaries": 0.02, "tree": "layers"},
            {"temporaries": 0.05},
        ),
    ],
)
def test_what_is_granted_to_methods_that_remember(change: Row, more: Row) -> None:
    target = change.get("target", "gpu")
    for row, missed in ((change, 0), (change | more, 1)):
        (joined,) = programs.join(_beside(row))
        findings = list(programs.judge_row(joined, target, granted=True))
        assert sum(one.verdict == MISSED for one in findings) == missed


def _beside(change: Row) -> list[Row]:
    """Rows of a peer and of a method with what is changed of them."""
    where = WHERE | {"tree": change.get("tree", "leaf")}
    of_peer = {name.removeprefix("peer "): value for name, value in change.items() if " " in name}
    row = OURS | where | {name: value for name, value in change.items() if " " not in name}
    return [THEIRS | where | of_peer | {"method": f"peer: {row['peer']}"}, row]


def test_leaves_of_a_pod_are_sharded_by_rows_and_columns() -> None:
    assert pods.choose_spec("fsdp", (4096, 4096)) == jax.P(("data", "model"), None)
    assert pods.choose_spec("mixed", (32, 4096, 4096)) == jax.P(None, "data", "model")
    assert pods.choose_spec("mixed", (32, 4096)) == jax.P(None, "model")
    assert pods.choose_spec("tensor", (4096,)) == jax.P(None)


def test_collectives_of_a_pod_are_as_many_as_sets_of_axes() -> None:
    row = {"chips": "256", "model": "7B", "layout": "mixed", "step": "clip", "sets": 2}
    row |= {"collectives": 2, "temporaries": 0.1, "peer temporaries": 0.11, "peer collectives": 1}
    assert all(one.verdict != MISSED for one in pods.judge([row], "tpu"))
    (one,) = [one for one in pods.judge([row | {"collectives": 3}], "tpu") if one.verdict == MISSED]
    assert one.figure == "collectives"
    more = row | {"collectives": 3, "peer collectives": 3}  # of hundreds of leaves
    assert all(one.verdict != MISSED for one in pods.judge([more], "tpu"))


@pytest.mark.usefixtures("no_packages")
def test_the_command_refuses_without_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.main(["programs", "--target", "tpu", "--only", "clip_sgd"])
    assert "needs libtpu" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        command.main(["training"])
    assert "must be one of tpu, gpu" in capsys.readouterr().err


def test_tables_have_the_peers_beside(tmp_path: Any) -> None:
    path = tmp_path / "programs.json"
    rows = [THEIRS | WHERE | {"run": 0}, OURS | WHERE | {"run": 0}]
    records.save(path, records.Content([{"device": "gpu: H200"}], rows))
    text = programs.SUITE.render(records.load(path))
    assert "tree leaf, dtype f32" in text
    assert "clip_by_global_norm  6        0      4.01       4.00     0.010" in text
    assert "clip_by_global_norm  4        0      4.00       0.000" in text
    assert "kernels            leaf, f32: all 1 " in text


def test_a_method_that_is_not_there_is_refused_once_the_target_is_set_up(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[str] = []

    def set_up(target: str) -> dict[str, str]:
        asked.append(target)
        return {"device": "gpu"}

    monkeypatch.setattr(programs.targets, "prepare", set_up)
    with pytest.raises(SystemExit):
        command.main(["programs", "--target", "gpu", "--only", "nothing"])
    assert "nothing matches" in capsys.readouterr().err
    assert asked == ["gpu"]


@pytest.mark.parametrize(("suite", "word"), [(programs.SUITE, "method"), (pods.SUITE, "step")])
def test_counts_of_one_method_leave_those_of_others(suite: Suite, word: str) -> None:
    old = dict.fromkeys(suite.key, "one") | {"kernels": 1}
    rows = [old | {word: "a"}, old | {word: "b"}]
    new = old | {word: "a", "kernels": 2}
    last = old | {word: "c"}
    assert records.replace(rows, [last, new], suite.merged_by) == [new, rows[1], last]
