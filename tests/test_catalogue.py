"""The catalogue says what is true."""

from __future__ import annotations

import re
import unicodedata

from clipax import catalogue
from clipax.catalogue import ENTRIES, PAPERS


def test_defaults_are_those_of_the_signature():
    assert ENTRIES["clip_adam_norm"].defaults["b2"] == 0.999
    assert "threshold" not in ENTRIES["clip_adam_norm"].defaults


def test_every_entry_is_found_under_its_name():
    import clipax

    for name, entry in ENTRIES.items():
        found = clipax
        for part in name.split("."):
            found = getattr(found, part)
        assert found is entry.factory


def test_entries_are_sorted_by_kind_and_name():
    kinds = ["threshold", "norm", "transformation", "optimizer"]
    places = [(kinds.index(entry.kind), name) for name, entry in ENTRIES.items()]
    assert places == sorted(places)


def test_no_name_is_given_twice():
    files = (catalogue._thresholds, catalogue._norms, catalogue._transforms, catalogue._optimizers)
    assert sum(len(file.ENTRIES) for file in files) == len(ENTRIES)


def test_keys_of_papers_are_first_author_year_and_topic():
    for key, paper in PAPERS.items():
        author = re.split(r"[ ,]", paper.authors)[0].lower()
        plain = unicodedata.normalize("NFKD", author).encode("ascii", "ignore").decode()
        assert re.fullmatch(rf"{plain}{paper.year}(_[a-z]+)?", key)


def test_papers_are_those_of_the_methods_and_none_is_there_twice():
    assert list(PAPERS) == sorted(PAPERS)
    assert {key for entry in ENTRIES.values() for key in entry.papers} == set(PAPERS)
    titles = [paper.title for paper in PAPERS.values()]
    assert len(set(titles)) == len(titles)


def test_the_table_has_a_row_of_four_cells_for_each_method():
    header, _, *rows = catalogue.markdown_table().splitlines()
    assert len(rows) == len(ENTRIES)
    for name, row in zip(ENTRIES, rows, strict=True):
        assert len(re.findall(r"(?<!\\)\|", row)) == len(re.findall(r"\|", header)) == 5
        assert row.startswith(f"| [`{name}`](../clipax/")
