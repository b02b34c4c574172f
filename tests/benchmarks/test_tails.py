"""The check of far tails tells a law from one that is cut, and from a slightly different one."""

from __future__ import annotations

import dataclasses
import math

import jax.numpy as jnp
import pytest
from scipy import integrate

from benchmarks.command import main
from benchmarks.suites import tails
from clipax.lab import noise

# Long runs.
OPTIMISED = True

DRAWS = 4_000_000


@pytest.mark.parametrize(("law", "survival"), tails.LAWS[:1] + tails.LAWS[4:5])
def test_a_law_has_its_tail(law, survival):
    tail = tails.measure_law(law, survival, DRAWS, 1)
    assert tail["holds"]
    assert tail["not_finite"] == 0
    assert tail["draws"] >= DRAWS


def _changed(change):
    law = noise.pareto(1.5)
    return dataclasses.replace(law, transform=lambda word: change(law.transform(word)))


@pytest.mark.parametrize(
    "law",
    [
        _changed(lambda x: jnp.clip(x, -3e3, 3e3)),
        _changed(lambda x: jnp.where(jnp.abs(x) > 5e3, jnp.nan, x)),
        noise.pareto(1.45),
    ],
    ids=["capped", "nan", "another index"],
)
def test_what_is_not_the_law_is_found(law):
    survival = tails.LAWS[0][1]
    assert not tails.measure_law(law, survival, DRAWS, 1)["holds"]


def _zolotarev(t, alpha):
    """P(|x| > t) of the symmetric stable law, alpha above 1, by Zolotarev's integral."""
    power = alpha / (alpha - 1)

    def integrand(angle):
        ratio = math.cos(angle) / math.sin(alpha * angle)
        size = ratio**power * math.cos((alpha - 1) * angle) / math.cos(angle)
        return math.exp(-(t**power) * size)

    edge = math.pi / 2
    found = integrate.quad(integrand, 0, edge, epsrel=1e-10, limit=500, points=[edge - 1 / t])
    return found[0] * 2 / math.pi


def test_the_expansion_of_stable_tails():
    for t in (30.0, 1e3):
        levy = tails.stable_survival(0.5, 1.0, 40)(t)
        assert levy == pytest.approx(math.erf(math.sqrt(0.5 / t)), rel=1e-9)
        survival = tails.stable_survival(1.5, 0)(t)
        assert survival == pytest.approx(_zolotarev(t, 1.5), rel=1e-4)


def test_too_few_draws_are_refused():
    with pytest.raises(SystemExit):
        main(["tails", "--draws", "10"])
