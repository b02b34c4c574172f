"""The parts on real data run on what scikit-learn ships, and draw."""

from __future__ import annotations

import math

import pytest
from matplotlib.figure import Figure

from benchmarks.papers import PAPERS
from benchmarks.papers.chezhegov2025_cola import cola
from benchmarks.papers.koloskova2023_batches import batches
from benchmarks.papers.koloskova2023_real import logistic_real
from benchmarks.papers.marshall2025_real import real
from benchmarks.papers.paper import Options, Outcome, Part
from benchmarks.papers.tucat2025_vae import vae
from benchmarks.papers.tucat2025_wide import wide
from benchmarks.papers.zhang2020_mixed_cifar import cifar
from benchmarks.papers.zhang2020_mixed_text import language
from benchmarks.papers.zhang2020_real import smoothness_real
from tests.quick_code import compiled_quickly


def _find(outcome: Outcome, *words: str) -> float:
    """The one measurement whose name holds all the words."""
    (claim,) = [c for c in outcome.claims if all(word in c.name for word in words)]
    return float(claim.measured)


REAL_DATA: tuple[Part, ...] = (
    logistic_real,
    batches,
    real,
    vae,
    wide,
    cola,
    smoothness_real,
    cifar,
    language,
)


class _Outcomes(dict[str, Outcome]):
    """Parts run when a test asks for them, so that no test pays for all."""

    def __missing__(self, name: str) -> Outcome:
        (part,) = [part for part in REAL_DATA if part.__name__ == name]
        with compiled_quickly():
            self[name] = part(Options(quick=True))
        return self[name]


@pytest.fixture(scope="module")
def outcomes() -> dict[str, Outcome]:
    return _Outcomes()


def test_the_command_runs_every_part() -> None:
    named = [part for paper in PAPERS.values() for part in paper.parts]
    assert [named.count(part) for part in REAL_DATA] == [1] * len(REAL_DATA)


@pytest.mark.thorough
@pytest.mark.parametrize("name", [part.__name__ for part in REAL_DATA])
def test_every_part_measures_and_draws(outcomes: dict[str, Outcome], name: str) -> None:
    outcome = outcomes[name]
    names = [claim.name for claim in outcome.claims]
    assert len(set(names)) == len(names) > 1
    assert all(math.isfinite(claim.measured) for claim in outcome.claims)
    for panel in outcome.panels:
        assert panel.title
        assert panel.xlabel
        assert panel.ylabel
        axes = Figure().add_subplot()
        panel.draw(axes)
        assert axes.has_data()
        assert axes.get_legend() is not None


@pytest.mark.thorough
def test_a_clip_costs_only_the_start_without_noise(outcomes: dict[str, Outcome]) -> None:
    found = outcomes["logistic_real"]
    assert [claim.name for claim in found.claims if not claim.holds] == []


@pytest.mark.thorough
@pytest.mark.parametrize("model", ["logistic", "network"])
def test_a_clip_of_the_mean_has_less_bias_than_one_of_examples(
    outcomes: dict[str, Outcome], model: str
) -> None:
    found = outcomes["batches"]
    assert _find(found, model, "over that with clipped examples", "gradient") < 0.6
    assert _find(found, model, "without a clip") < 0.2


@pytest.mark.thorough
def test_residuals_apart_from_the_features_follow_the_equation(
    outcomes: dict[str, Outcome],
) -> None:
    found = outcomes["real"]
    apart = _find(found, "residuals of other examples, clip:")
    assert 2 * apart < _find(found, "real, clip:")


@pytest.mark.thorough
def test_regularized_clipping_trains_an_autoencoder_as_adam_does(
    outcomes: dict[str, Outcome],
) -> None:
    assert 0.5 < _find(outcomes["vae"], "over Adam's") < 1.5


@pytest.mark.thorough
def test_a_wide_network_contracts_and_stays_near_its_start(outcomes: dict[str, Outcome]) -> None:
    found = outcomes["wide"]
    assert [claim.name for claim in found.claims if not claim.holds] == []
    # The floor lifts the contraction that a clip takes.
    assert _find(found, "last loss with delta .1") < 0.5


@pytest.mark.thorough
def test_the_note_on_cola_says_what_it_is_not(outcomes: dict[str, Outcome]) -> None:
    assert "not pre-trained" in outcomes["cola"].notes[0]
    assert _find(outcomes["cola"], "over Adam's, median") < 1.1
    assert {claim.source for claim in outcomes["cola"].claims} == {"ours"}


@pytest.mark.thorough
def test_the_models_learn(outcomes: dict[str, Outcome]) -> None:
    assert _find(outcomes["smoothness_real"], "LSTM", "last loss") < 0.9
    for part in ("cifar", "language"):  # what they claim of the sets that ship is that they learn
        assert [claim for claim in outcomes[part].claims if not claim.holds] == []
