"""A clip on 256 chips: a collective for each set of mesh axes, and no more memory than optax's."""

from __future__ import annotations

import pytest

from benchmarks.harness import records
from benchmarks.suites import pods

# The records of units that are sharded themselves: a maximum beside the sum, and three sums each.
OF_UNITS = {"AGC": {"collectives": 1, "temporaries, P of a shard": 0.014}}


@pytest.mark.parametrize("layout", pods.LAYOUTS)
@pytest.mark.parametrize("name", pods.STACKED)
def test_a_stacked_decoder(name: str, layout: str) -> None:
    row = pods.compare("256", "7B stacked", layout, name, pods.STACKED[name])
    found = list(pods.judge([row], "tpu"))
    assert [one.figure for one in found] == ["collectives", "temporaries, P of a shard"]
    more = OF_UNITS.get(name, {})
    missed = [one for one in found if one.value > one.limit + more.get(one.figure, 0)]
    assert not missed, records.render_findings(missed)


@pytest.mark.parametrize("layout", pods.LAYOUTS)
def test_a_decoder_of_single_layers(layout: str) -> None:
    """Leaves that lie alike are added before XLA sums over the chips."""
    row = pods.compare("256", "7B", layout, "clip", pods.STEPS["clip"])
    missed = [one for one in pods.judge([row], "tpu") if one.verdict != "holds"]
    assert not missed, records.render_findings(missed)
    assert row["scalars"] <= 20 < row["leaves"]
