"""Constants at the ends of float64: every function returns the right value or names an argument.

The reference computes in logarithms, in float64, written from the docstrings' formulas.
"""

from __future__ import annotations

import inspect
import itertools
import math
import re
import sys

import numpy as np
import pytest

from clipax import theory

FUNCTIONS = dict(inspect.getmembers(theory, inspect.isfunction))
POSITIVE = (5e-324, 2.3e-308, 1e-300, 1e-160, 1e-16, 1.0, 3.0, 1e16, 1e160, 1e300, 1.7e308)
PROBABILITIES = (5e-324, 1e-300, 1e-16, 0.5, 1 - 1e-16)
EXTREMES = {
    "alpha": (math.nextafter(1, 2), 1 + 1e-9, 1.5, 2.0),
    "b1": (None, 0.0, 5e-324, 0.9, 1 - 1e-9, math.nextafter(1, 0)),
    "b_init": (None, *POSITIVE),
    "c2": tuple(4 * value for value in POSITIVE if value < 1e307),
    "delayed": (True, False),
    "failure_probability": PROBABILITIES,
    "order": (1.0, math.nextafter(1, 2), 2.0, 1e16, 1.7e308),
    "quantile": PROBABILITIES,
    "steps": (1, 2, 10**6, 2**53 - 1, 2**60, 10**40, 10**400, 10**5000),
    "threshold": POSITIVE,
}
SMALLEST, LARGEST = math.log(sys.float_info.min), math.log(sys.float_info.max)
MESSAGE = r"`(\w+)` must be such that the (\w+) is in \[.*\], got .*: it would be [\d.e+-]+\.$"


def log_of(value):
    return math.log(value)  # of any integer too


def smooth(f):
    """The constants of smoothness, as logarithms."""
    return log_of(f["l0"]), log_of(f["l1"])


def any_threshold(f):
    l0, l1 = smooth(f)
    threshold = l0 - l1 if f.get("threshold") is None else log_of(f["threshold"])
    return -log_of(f["constant"]) - np.logaddexp(l0, threshold + l1), threshold


def bounded_noise(f):
    l0, l1 = smooth(f)
    noise = log_of(f["noise_bound"])
    rate = min(-l0 - log_of(20), -log_of(128) - l1 - noise, -log_of(f["steps"]) / 2)
    return rate, -log_of(16) - l1 - rate, noise


def momentum(f):
    a, order, steps = f["alpha"], 3 * f["alpha"] - 2, log_of(f["steps"])
    fresh = -a / order * steps
    rate = log_of(f["scale"]) - (2 * a - 1) / order * steps
    decay = math.log(-math.expm1(fresh)) if fresh else -math.inf
    return rate, log_of(f["moment"]) + steps / order, decay


def sadiev(f):
    a, length = f["alpha"], log_of(f["radius"])
    log = log_of(log_of(4 * (f["steps"] + 1)) - log_of(f["failure_probability"]))
    noisy = log_of(f["sigma"]) + log_of(f["steps"]) / a + (a - 1) / a * log
    rate = min(-log_of(f["smoothness"]) - log, length - noisy)
    return rate, length - log_of(f["c"]) - rate - log


def convex(f):
    a, length, k = f["alpha"], log_of(f["radius"]), log_of(f["steps"])
    fresh = math.log1p(-(f.get("b1") or 0.0))
    log = log_of(log_of(4 * f["steps"]) - log_of(f["failure_probability"]))
    reach = log_of(f["c2"]) + fresh / 2 + length
    ratio = min(
        log_of(f["c1"]) + 2 * fresh - log_of(f["smoothness"]) - log,
        reach - log_of(f["sigma"]) - k / a - (a - 1) / a * log,
    )
    return scale(f, ratio, length, reach - ratio - log)


def nonconvex(f):
    a, gap, k = f["alpha"], log_of(f["gap"]), log_of(f["steps"])
    curvature, sigma = log_of(f["smoothness"]), log_of(f["sigma"])
    fresh = math.log1p(-(f["b1"] or 0.0)) if f["delayed"] else 0.0
    steps = log_of(f["steps"]) if f["delayed"] else 0.0
    log = log_of(math.log(4) + steps - log_of(f["failure_probability"]))
    c2, e = log_of(f["c2"]), (a - 1) / (2 * a - 1)
    slow, fast = k * (a - 1) / (3 * a - 2), k * a / (3 * a - 2)
    ratio = min(
        log_of(f["c1"]) + 2 * fresh - curvature - slow - log,
        c2 + (fresh + gap - curvature) / 2 - sigma - fast - (a - 1) / a * log,
        c2 + e * (fresh - curvature - 2 * log) + (1 - e) * (gap - 2 * sigma) - fast,
    )
    threshold = c2 + (fresh + gap - curvature) / 2 - ratio - log - slow
    return scale(f, ratio, (log_of(2) + gap - curvature) / 2, threshold)


def scale(f, ratio, length, threshold):
    if f["b_init"] is None:
        return length, threshold, length - ratio
    return ratio + log_of(f["b_init"]), threshold, log_of(f["b_init"])


def reweighted(f):
    rate, threshold, first = convex(f)
    return rate, threshold, first, 2 * (rate - log_of(f["radius"]))


def b2(f):
    return -math.inf if f["steps"] == 1 else math.log1p(-1 / f["steps"])


def bias(f):
    sigma, threshold = log_of(f["sigma"]), log_of(f["threshold"])
    if threshold > sigma - math.log(2):
        return (2 * sigma - math.log(4) - threshold,)
    return (sigma - math.log(2) + math.log1p(-math.exp(threshold - sigma) / 2),)


REFERENCES = {
    "sgd_smooth": lambda f: (
        -math.log(2) - np.logaddexp(log_of(f["gradient_bound"]) + smooth(f)[1], smooth(f)[0]),
    ),
    "clip_sgd_smooth": lambda f: (
        -math.log(10) - smooth(f)[0],
        smooth(f)[0] + min(math.log(10), -smooth(f)[1]),
    ),
    "clip_sgd_bounded_noise": bounded_noise,
    "clip_sgd_practical": lambda f: (-smooth(f)[0], smooth(f)[0] - smooth(f)[1]),
    "clip_sgd_tight": lambda f: (
        -math.log(2) - smooth(f)[0],
        math.log(2 / 3) + smooth(f)[0] - smooth(f)[1],
    ),
    "normalized_sgd_tight": lambda f: (
        math.log(2 / 3) - smooth(f)[1],
        math.log(2 / 3) + smooth(f)[0] - smooth(f)[1],
    ),
    "clip_sgd_any_threshold": any_threshold,
    "clipping_bias": bias,
    "quantile_clipping_bias": lambda f: (
        (1 - 1 / f["order"]) * math.log1p(-f["quantile"]) + log_of(f["sigma"]),
    ),
    "clip_normalized_momentum_nonconvex": momentum,
    "clip_sgd_convex": sadiev,
    "clip_adagrad_norm_convex": convex,
    "clip_adam_norm_convex": lambda f: (*convex(f), b2(f)),
    "clip_adagrad_norm_nonconvex": nonconvex,
    "clip_adam_norm_nonconvex": lambda f: (*nonconvex(f), b2(f)),
    "clip_radagrad_norm_convex": reweighted,
}


def cases(name, count=400):
    """Good constants but for one or two, each at each of its ends; then all of them at random."""
    arguments = list(inspect.signature(FUNCTIONS[name]).parameters)
    values = {argument: EXTREMES.get(argument, POSITIVE) for argument in arguments}
    if name == "clip_radagrad_norm_convex":
        values["b_init"] = POSITIVE
    good = {argument: some[len(some) // 2] for argument, some in values.items()}
    for first, second in itertools.combinations_with_replacement(arguments, 2):
        for one, two in itertools.product((values[first][0], values[first][-1]), values[second]):
            yield {**good, first: one, second: two}
    random = np.random.default_rng(0)
    for _ in range(count):
        yield {argument: some[random.integers(len(some))] for argument, some in values.items()}


def found_values(result):
    if isinstance(result, float):
        return {"": result}
    ours = {field: value for field, value in result._asdict().items() if value is not None}
    return {field: value for field, value in ours.items() if field not in ("b1", "delay")}


def call(name, given):
    """Return the values that a function finds, and its error."""
    try:
        return found_values(FUNCTIONS[name](**given)), None
    except ValueError as error:
        return {}, str(error)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_extreme_constants_give_the_right_value_or_an_error_that_names_one(name):
    refused = 0
    for given in cases(name):
        if "c2" in given and not given["c2"] >= 4 * given["c1"]:
            given["c2"] = 4 * given["c1"]
        if math.isinf(given.get("c2", 0.0)):
            continue
        expected = REFERENCES[name](given)
        values, error = call(name, given)
        if error:
            refused += 1
            told = re.match(MESSAGE, error)
            assert told, error
            assert told[1] in given, error
            inside = all(SMALLEST - 1e-9 < value < LARGEST + 1e-9 for value in expected)
            # An average over so many steps has a decay rate that rounds to 1.
            rounded = told[2] in ("decay", "b2") and given["steps"] > 2**52
            assert rounded or not inside, (given, error)
            continue
        assert len(values) == len(expected)
        for (field, value), log in zip(values.items(), expected, strict=True):
            assert isinstance(value, float), (field, given)
            assert 0 < value < math.inf or field in ("decay", "b2"), (field, given)
            if field in ("decay", "b2"):
                assert 0 <= value < 1, given
            if value or log > -math.inf:
                # Logarithms of up to 5,000 digits, in float64.
                assert math.log(value) == pytest.approx(log, rel=1e-13, abs=1e-10), (field, given)
    assert refused


def test_the_argument_named_is_the_one_farthest_from_1():
    with pytest.raises(ValueError, match=re.escape(
        "`l1` must be such that the threshold is in [2.2e-308, 1.8e+308], got 1e-200: "
        "it would be 1.00e+350."
    )):  # fmt: skip
        theory.clip_sgd_practical(l0=1e150, l1=1e-200)
    with pytest.raises(ValueError, match=r"^`steps` must be such that the b2 is in \[0, 0\.9"):
        theory.clip_adam_norm_convex(
            smoothness=1e100, radius=1.0, sigma=1.0, alpha=2.0, steps=2**60, failure_probability=0.1
        )


@pytest.mark.parametrize("value", [10**400, -(10**400), 10**5000], ids=["400", "-400", "5000"])
def test_integers_beyond_float64_are_refused_by_name(value):
    with pytest.raises(ValueError, match=r"^`l0` must be within the floats"):
        theory.clip_sgd_practical(l0=value, l1=1.0)
