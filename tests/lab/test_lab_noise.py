"""The samplers against the laws they are named after, and the text that names them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from clipax.lab import noise
from clipax.lab.errors import InputError
from clipax.lab.noise import LAWS, Noise, parse_noise

COUNT = 20_000
# Words at both ends and around the middle of their range.
EXTREME = jnp.array([0, 1, 2, 3, 2**31 - 1, 2**31, 2**32 - 2, 2**32 - 1], jnp.uint32)


def draw(text: str) -> np.ndarray:
    return np.asarray(parse_noise(text).sample(jax.random.key(7), (COUNT,)), np.float64)


def assert_law(sample: np.ndarray, law: object) -> None:
    assert stats.kstest(sample, law.cdf).pvalue > 0.01


@pytest.mark.parametrize(
    ("text", "law"),
    [
        ("gaussian:2", stats.norm(0, 2)),
        ("student-t:1.5", stats.t(1.5)),
        ("student-t:30", stats.t(30)),
        ("alpha-stable:1", stats.cauchy),
        ("alpha-stable:2", stats.norm(0, np.sqrt(2))),
    ],
)
def test_the_sample_follows_its_law(text, law):
    assert_law(draw(text), law)


@pytest.mark.parametrize("index", [1.2, 1.5, 3.0])
def test_the_symmetric_pareto_law_has_the_density_of_its_paper(index):
    # index / (2 (1 + |t|)^(index + 1)): a Lomax law with a random sign.
    sample = draw(f"pareto:{index}")
    assert_law(np.abs(sample), stats.lomax(index))
    positive = (sample > 0).mean()
    assert abs(positive - 0.5) < 4 * 0.5 / np.sqrt(COUNT)
    # The sign is independent of the size.
    large = np.abs(sample) > np.median(np.abs(sample))
    assert abs((sample[large] > 0).mean() - 0.5) < 4 * 0.5 / np.sqrt(COUNT / 2)


@pytest.mark.parametrize("index", [1.5, 3.0])
def test_the_skewed_pareto_law_is_moved_to_mean_zero(index):
    mean = index / (index - 1)
    assert_law(draw(f"skewed-pareto:{index}") + mean, stats.pareto(index))


def test_the_stable_law_agrees_with_scipy_between_its_special_cases():
    sample = np.sort(draw("alpha-stable:1.5"))
    points = np.array([-20.0, -3.0, -1.0, -0.2, 0.5, 2.0, 8.0])
    expected = stats.levy_stable(1.5, 0.0).cdf(points)
    found = np.searchsorted(sample, points) / COUNT
    np.testing.assert_allclose(found, expected, atol=4 * 0.5 / np.sqrt(COUNT))


def test_the_tail_is_not_capped_by_the_resolution_of_float32_uniforms():
    # A uniform that is a multiple of 2^-23 would end at 2^(23/1.5), about 4e4.
    assert noise._pareto_from(EXTREME, 1.5).max() == pytest.approx(2 ** (32 / 1.5), rel=1e-3)
    skewed = noise._skewed_pareto_from(EXTREME, 1.5).max()
    assert skewed == pytest.approx(2 ** (33 / 1.5), rel=1e-3)
    # P(|X| > x) ~ x^-1.5 sqrt(2/pi) for this stable law: at 2^-32, x is about 2.3e6.
    words = jnp.meshgrid(EXTREME, EXTREME)
    assert jnp.abs(noise._alpha_stable_from(*words, 1.5)).max() > 1e6
    assert jnp.abs(noise._student_t_from(*words, 1.5)).max() > 1e6


@pytest.mark.parametrize("index", [1.0, 1.3, 1.999, 2.0])
def test_stable_variates_are_finite_and_accurate_at_the_ends_of_the_words(index):
    direction, height = jnp.meshgrid(EXTREME, EXTREME)
    found = np.asarray(noise._alpha_stable_from(direction, height, index))
    assert np.isfinite(found).all()
    # The same formula in float64, from the same words.
    word, height = (np.asarray(words, np.float64) for words in (direction, height))
    delta = np.pi / 2 * (np.floor(word / 2) + 0.5) * 2.0**-31
    exponential = -np.log1p((height + 0.5 - 2.0**32) * 2.0**-32)
    offset = (2 - index) * np.pi / 2
    expected = (
        (1 - 2 * (word % 2))
        * np.sin(offset + index * delta)
        / np.sin(delta) ** (1 / index)
        * (exponential / np.sin(offset + (index - 1) * delta)) ** ((index - 1) / index)
    )
    # Near V = 0 the variate itself passes through zero.
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("freedom", [0.5, 1.0, 1.5, 1e4])
def test_student_variates_are_finite_at_the_ends_of_the_words(freedom):
    assert jnp.isfinite(noise._student_t_from(*jnp.meshgrid(EXTREME, EXTREME), freedom)).all()


@pytest.mark.parametrize("family", LAWS)
@pytest.mark.parametrize("end", ["low", "high"])
def test_every_law_is_finite_at_the_ends_of_its_range(family, end):
    law = LAWS[family]
    value = law.high if end == "high" else law.low + (1e-3 if law.open_low else 0.0)
    assert jnp.isfinite(Noise(family, value).sample(jax.random.key(0), (1000,))).all()


def test_samples_are_functions_of_key_and_shape():
    law = parse_noise("pareto:1.5")
    first, again = (law.sample(jax.random.key(3), (4, 5)) for _ in range(2))
    assert first.shape == (4, 5)
    assert first.dtype == jnp.float32
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, law.sample(jax.random.key(4), (4, 5)))


def test_no_noise_is_zero():
    law = parse_noise("none")
    assert law.is_none
    np.testing.assert_array_equal(law.sample(jax.random.key(0), (3,)), np.zeros(3))


@pytest.mark.parametrize(
    "text", ["none", "gaussian:2", "pareto:1.5", "skewed-pareto:1.2", "student-t:3"]
)
def test_text_is_read_and_written_alike(text):
    assert str(parse_noise(text)) == text
    assert parse_noise(f" {text} ") == parse_noise(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("parteo:1.5", "Did you mean pareto?"),
        ("", "Known: none, gaussian:S, pareto:ALPHA"),
        ("none:1", "unknown noise 'none:1'"),
        ("pareto", "must end in a number: pareto:ALPHA is symmetric Pareto"),
        ("pareto:heavy", "must end in a number"),
        ("pareto:nan", "ALPHA must be at least 0.5 and at most 100"),
        ("skewed-pareto:1", "ALPHA must be greater than 1 and at most 100"),
        ("alpha-stable:2.1", "ALPHA must be at least 1 and at most 2"),
        ("gaussian:0", "S must be greater than 0"),
        ("student-t:inf", "DF must be at least 0.5"),
    ],
)
def test_bad_text_says_what_is_wrong(text, message):
    with pytest.raises(InputError, match=message.replace("?", r"\?")):
        parse_noise(text)
