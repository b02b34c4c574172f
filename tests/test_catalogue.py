"""The catalogue says what is true."""

from __future__ import annotations

from clipax.catalogue import ENTRIES


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
