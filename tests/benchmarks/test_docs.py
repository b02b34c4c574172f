"""Pages that are written out of the committed results."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import command, docs, speed_pictures
from benchmarks.harness import records


def test_pages_are_as_the_results_say() -> None:
    assert docs.main(["--check"]) == 0


def test_a_stale_page_is_found_and_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "speed.md"
    page.write_text("A\n<!-- speed:steps begin -->\nold\n<!-- speed:steps end -->\nB\n")
    monkeypatch.setattr(docs, "SPEED", page)
    assert docs.main(["--check"]) == 1
    assert "speed.md: stale" in capsys.readouterr().err
    assert docs.main([]) == 0
    text = page.read_text()
    assert "old" not in text
    assert text.startswith("A\n<!-- speed:steps begin -->\n| step ")
    assert text.endswith("<!-- speed:steps end -->\nB\n")
    assert docs.main(["--check"]) == 0
    page.write_text("<!-- speed:stops begin --><!-- speed:stops end -->")
    with pytest.raises(ValueError, match="no table 'stops'"):
        docs.main(["--check"])


def test_a_picture_of_other_numbers_is_stale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(speed_pictures, "FOLDER", tmp_path)
    assert docs.main(["--check"]) == 1
    assert "speed_cpu.svg: stale" in capsys.readouterr().err
    assert docs.main([]) == 0
    assert docs.main(["--check"]) == 0
    path = tmp_path / "speed_gpu.svg"
    shown = speed_pictures.list_kernels()
    # As the table of the page says.
    assert {one.name: one[1:] for one in shown}["clip_by_value"] == (65, 64)
    path.write_text(path.read_text().replace('"clip_by_value", 65', '"clip_by_value", 66'))
    assert docs.main(["--check"]) == 1


def test_tables_for_users_have_numbers_and_no_verdicts() -> None:
    for name, write in docs.TABLES.items():
        table = write()
        assert "| --" in table
        # Whether a paper's figures hold is what the tables of them are for.
        assert name in ("papers", "real-data") or not any(
            f"| {one}" in table for one in (records.MISSED, records.HOLDS)
        )
    sizes = docs.TABLES["sizes"]()
    assert "| sgd, f32, 1M in 150 " in sizes
    assert "commit 2802f97" in sizes
    assert "148 arrays, 30M" in docs.TABLES["steps"]()


def test_every_file_of_results_can_be_shown() -> None:
    names = {path.stem for path in docs.RESULTS.glob("*.json")}
    assert names == docs.FILES.keys()
    for name in names:
        content = docs.load(name)
        assert command.load_suite(docs.FILES[name]).render(content).count("\n") > 5
    size = sum(path.stat().st_size for path in docs.RESULTS.rglob("*.json"))
    assert size < 560_000


def test_the_readme_names_every_command_and_every_file() -> None:
    text = (Path(docs.__file__).parent / "README.md").read_text()
    assert [name for name in command.SUITES if f"`{name}`" not in text] == []
    assert [name for name in docs.FILES if f"`{name}.json`" not in text] == []


def test_a_stale_table_of_choices_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "choose.md"
    page.write_text(docs.CHOOSE.read_text().replace("| `clip_by_zscore()` ", "| `zclip()` ", 1))
    monkeypatch.setattr(docs, "CHOOSE", page)
    assert docs.main(["--check"]) == 1
    assert "choose.md: stale" in capsys.readouterr().err
