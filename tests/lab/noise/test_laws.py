"""Laws of noise: their distribution, their moments, their tails."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from clipax.lab import noise

COUNT = 20_000
# Words at both ends and around the middle of their range.
EXTREME = np.array([0, 1, 2, 3, 2**31 - 1, 2**31, 2**32 - 2, 2**32 - 1], np.uint32)
CONTINUOUS = [
    (noise.gaussian(2.0), stats.norm(0, 2)),
    (noise.laplace(0.5), stats.laplace(0, 0.5)),
    (noise.uniform(2.0), stats.uniform(-2 * math.sqrt(3), 4 * math.sqrt(3))),
    (noise.student_t(1.5, 2.0), stats.t(1.5, scale=2)),
    (noise.student_t(30.0), stats.t(30)),
    (noise.cauchy(0.5), stats.cauchy(0, 0.5)),
    (noise.skewed_pareto(1.55), stats.pareto(1.55, loc=-1.55 / 0.55)),
    (noise.exponential(3.0), stats.expon(scale=3)),
    (noise.weibull(0.5), stats.dweibull(0.5)),
    (noise.burr(2.0, 0.75), stats.burr12(2, 0.75)),
    (noise.chi_square(1), stats.chi2(1)),
    (noise.chi_square(3), stats.chi2(3)),
    (noise.chi_square(4), stats.chi2(4)),
    (noise.alpha_stable(2.0), stats.norm(0, math.sqrt(2))),
    (noise.alpha_stable(1.0), stats.cauchy()),
    (noise.alpha_stable(0.5, 1.0), stats.levy()),
]
OTHERS = [
    noise.pareto(1.5),
    noise.pareto(3.0),
    noise.rademacher_like(2.0, 0.2),
    noise.two_point(1.5, 0.1),
    noise.alpha_stable(1.5),
    noise.alpha_stable(0.7),
    noise.alpha_stable(1.5, 1.0),
    noise.alpha_stable(1.5, -0.5),
    noise.alpha_stable(1.0, 0.5),
    noise.alpha_stable(1.0, -1.0),
    noise.alpha_stable(0.7, -1.0),
    noise.alpha_stable(1.01, 1.0),
    noise.alpha_stable(1.999),
    noise.student_t(0.5),
]
LAWS = [law for law, _ in CONTINUOUS] + OTHERS
each_law = pytest.mark.parametrize("law", LAWS, ids=str)


def draw(law: noise.Law, seed: int = 7) -> np.ndarray:
    return np.asarray(law.sample(jax.random.key(seed), (COUNT,)), np.float64)


def extreme_words(law: noise.Law) -> list[np.ndarray]:
    grids = np.meshgrid(*[EXTREME] * min(law.words, 3))
    return [grids[place % 3].ravel() for place in range(law.words)]


@pytest.mark.parametrize(("law", "reference"), CONTINUOUS, ids=[str(law) for law, _ in CONTINUOUS])
def test_a_sample_follows_its_law(law, reference):
    assert stats.kstest(draw(law), reference.cdf).pvalue > 0.005
    mean, variance = reference.stats("mv")
    if math.isfinite(law.mean):
        assert law.mean == pytest.approx(float(mean), abs=1e-12)
    if math.isfinite(law.variance):
        assert law.variance == pytest.approx(float(variance))
    else:
        assert not math.isfinite(variance)


@pytest.mark.parametrize("alpha", [1.5, 3.0])
def test_the_symmetric_pareto_law_has_the_density_of_its_paper(alpha):
    sample = draw(noise.pareto(alpha))
    assert stats.kstest(np.abs(sample), stats.lomax(alpha).cdf).pvalue > 0.005
    # The sign is fair, and independent of the size.
    large = np.abs(sample) > np.median(np.abs(sample))
    for part in (sample, sample[large]):
        assert abs((part > 0).mean() - 0.5) < 4 * 0.5 / math.sqrt(len(part))
    second = 2 / ((alpha - 1) * (alpha - 2)) if alpha > 2 else math.inf
    assert noise.pareto(alpha).variance == second


def test_laws_of_few_values_have_their_frequencies():
    for law, values, shares in [
        (noise.rademacher_like(2.0, 0.2), [-math.sqrt(20), 0, math.sqrt(20)], [0.1, 0.8, 0.1]),
        (noise.two_point(1.5, 0.1), [-0.5, 4.5], [0.9, 0.1]),
    ]:
        found, counts = np.unique(draw(law), return_counts=True)
        np.testing.assert_allclose(found, values, rtol=1e-6)
        assert stats.chisquare(counts, COUNT * np.array(shares)).pvalue > 0.005
        assert law.mean == pytest.approx(np.dot(values, shares), abs=1e-12)
        assert law.variance == pytest.approx(np.dot(np.square(values), shares))


@each_law
def test_variates_are_finite_for_all_words(law):
    # All signs and ends of the words; the other laws of a name differ in parameters alone.
    assert np.isfinite(law.from_words(*extreme_words(law))).all()
    assert np.isfinite(draw(law)).all()


@each_law
def test_a_standardised_law_says_what_it_is(law):
    result = law.standardised()
    words = extreme_words(law)
    if math.isfinite(law.variance):
        assert result.mean == pytest.approx(0, abs=1e-12)
        assert result.variance == pytest.approx(1)
        expected = (law.from_words(*words) - law.mean) / math.sqrt(law.variance)
        np.testing.assert_allclose(result.from_words(*words), expected, rtol=1e-5, atol=1e-6)
    elif math.isfinite(law.mean):
        assert result.mean == 0
        assert math.isinf(result.variance)
    else:
        assert result is law


def test_the_tail_is_not_capped_by_the_resolution_of_float32_uniforms():
    # A uniform that is a multiple of 2^-23 would end at 2^(23/1.5), about 4e4.
    def largest(law: noise.Law) -> float:
        return float(np.abs(law.from_words(*extreme_words(law))).max())

    assert largest(noise.pareto(1.5)) == pytest.approx(2 ** (32 / 1.5), rel=1e-3)
    assert largest(noise.skewed_pareto(1.5)) == pytest.approx(2 ** (33 / 1.5), rel=1e-3)
    assert largest(noise.burr(1.0, 1.5)) == pytest.approx(2 ** (33 / 1.5), rel=1e-3)
    assert largest(noise.cauchy()) == pytest.approx(2**33 / math.pi, rel=1e-3)
    # P(|X| > x) ~ x^-1.5 sqrt(2/pi) for this stable law: at 2^-32, x is about 2.3e6.
    assert largest(noise.alpha_stable(1.5)) > 1e6
    assert largest(noise.student_t(1.5)) > 1e6
    assert largest(noise.gaussian()) > 6.6


def test_samples_are_functions_of_key_and_shape_alone():
    law = noise.alpha_stable(1.5, 0.5)
    keys = jax.random.split(jax.random.key(3), 2)
    alone = [law.sample(key, (4, 5)) for key in keys]
    assert alone[0].shape == (4, 5)
    assert alone[0].dtype == jnp.float32
    together = jax.jit(jax.vmap(lambda key: law.sample(key, (4, 5))))(keys)
    np.testing.assert_allclose(together, jnp.stack(alone), rtol=1e-5)
    assert not np.array_equal(*alone)
    assert law == noise.alpha_stable(1.5, 0.5)
    assert law != noise.alpha_stable(1.5000001, 0.5)
    assert hash(law) == hash(noise.alpha_stable(1.5, 0.5))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: noise.gaussian(0.0), "`sigma` must be positive"),
        (lambda: noise.alpha_stable(2.1), "`alpha` must be"),
        (lambda: noise.alpha_stable(1.5, 2.0), "`beta` must be"),
        (lambda: noise.skewed_pareto(1.0), "`alpha` must be"),
        (lambda: noise.rademacher_like(1.0, 0.0), "`q` must be"),
        (lambda: noise.two_point(1.0, 1.0), "`p` must be"),
        (lambda: noise.burr(0.1, 1.0), "`c k` must be"),
        (lambda: noise.chi_square(0), "`df` must be"),
        (lambda: noise.gaussian().scaled(-1.0), "`scale` must be positive"),
        (lambda: noise.gaussian().from_words(EXTREME), "`words` must be 2 arrays"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
