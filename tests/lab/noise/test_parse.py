"""Text that names a law of noise, and the law it gives."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from clipax.lab import noise
from clipax.lab._errors import InputError
from clipax.lab.noise import LAWS, Noise, parse_noise


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


def test_the_text_names_the_laws_of_the_laboratory():
    named = parse_noise("alpha-stable:1.5").sample(jax.random.key(3), (4, 5))
    law = noise.alpha_stable(1.5).sample(jax.random.key(3), (4, 5))
    np.testing.assert_array_equal(named, law)


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
