"""The parameters of the theorems: against arithmetic by hand, in other units, in the optimizers."""

from __future__ import annotations

import inspect
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import clipax
from clipax import theory

# Constants are chosen so that every power is a whole number. `failure` gives the logarithm A.
ALPHA_TWO = {"alpha": 2.0, "steps": 16, "failure_probability": 64 * math.exp(-9)}  # 4; A = 9, 3
ALPHA_LOW = {"alpha": 1.5, "steps": 27, "failure_probability": 108 * math.exp(-8)}  # 9; A = 8, 2
CONVEX = {"smoothness": 1.0, "radius": 2.0}
# Of 32 steps the powers are 2 and 8, of 2^25 2^5 and 2^15; A = 64 has the powers 4 and 8.
NONCONVEX = {"smoothness": 16.0, "gap": 16.0, "alpha": 1.5}
SHORT = {"steps": 32, "failure_probability": 4 * 32 * math.exp(-64)}
LONG = {"steps": 2**25, "failure_probability": 4 * 2**25 * math.exp(-64)}
UNDELAYED = {"steps": 2**25, "failure_probability": 4 * math.exp(-64), "delayed": False}
ROOT = math.sqrt(2)

BY_HAND = [
    ("sgd_smooth", {"l0": 2.0, "l1": 0.5, "gradient_bound": 16.0}, {"learning_rate": 0.05}),
    ("clip_sgd_smooth", {"l0": 2.0, "l1": 4.0}, {"learning_rate": 0.05, "threshold": 0.5}),
    ("clip_sgd_smooth", {"l0": 2.0, "l1": 0.01}, {"learning_rate": 0.05, "threshold": 20.0}),
    ("clip_sgd_practical", {"l0": 2.0, "l1": 4.0}, {"learning_rate": 0.5, "threshold": 0.5}),
    ("clip_sgd_tight", {"l0": 3.0, "l1": 4.0}, {"learning_rate": 1 / 6, "threshold": 0.5}),
    ("normalized_sgd_tight", {"l0": 3.0, "l1": 4.0}, {"learning_rate": 1 / 6, "eps": 0.5}),
    (  # the rates are 1/20, 1/512 and 1/10
        "clip_sgd_bounded_noise",
        {"l0": 1.0, "l1": 2.0, "noise_bound": 2.0, "steps": 100},
        {"learning_rate": 1 / 512, "threshold": 16.0, "offset": 2.0},
    ),
    (  # 1/20, 1/2 and 1/10
        "clip_sgd_bounded_noise",
        {"l0": 1.0, "l1": 0.25, "noise_bound": 0.0625, "steps": 100},
        {"learning_rate": 0.05, "threshold": 5.0, "offset": 0.0625},
    ),
    (  # 1/20, 1/2 and 1/100
        "clip_sgd_bounded_noise",
        {"l0": 1.0, "l1": 0.25, "noise_bound": 0.0625, "steps": 10_000},
        {"learning_rate": 0.01, "threshold": 25.0, "offset": 0.0625},
    ),
    ("clip_sgd_any_threshold", {"l0": 2.0, "l1": 0.5}, {"learning_rate": 1 / 36, "threshold": 4.0}),
    (
        "clip_sgd_any_threshold",
        {"l0": 2.0, "l1": 0.5, "threshold": 12.0, "constant": 2.0},
        {"learning_rate": 1 / 16, "threshold": 12.0},
    ),
    (  # the smoothness decides: 1/9 against 4 * 2/(3 * 4 * 3)
        "clip_adagrad_norm_convex",
        {**CONVEX, **ALPHA_TWO, "sigma": 3.0},
        {"learning_rate": 2.0, "threshold": 8.0, "b_init": 18.0, "b1": None, "delay": 1},
    ),
    (  # the noise decides: 4 * 2/(12 * 4 * 3) = 1/18
        "clip_adagrad_norm_convex",
        {**CONVEX, **ALPHA_TWO, "sigma": 12.0},
        {"learning_rate": 2.0, "threshold": 16.0, "b_init": 36.0, "b1": None, "delay": 1},
    ),
    (  # 4 * 2/(8 * 9 * 2) = 1/18
        "clip_adagrad_norm_convex",
        {**CONVEX, **ALPHA_LOW, "sigma": 8.0},
        {"learning_rate": 2.0, "threshold": 18.0, "b_init": 36.0, "b1": None, "delay": 1},
    ),
    (  # the same ratio from a first scale of 9; c1 = 2, c2 = 8 double it where the noise decides
        "clip_adagrad_norm_convex",
        {**CONVEX, **ALPHA_LOW, "sigma": 8.0, "b_init": 9.0, "c1": 2.0, "c2": 8.0},
        {"learning_rate": 1.0, "threshold": 18.0, "b_init": 9.0, "b1": None, "delay": 1},
    ),
    (  # momentum: 1/(16 * 9) against 4 * (1/2) * 2/(3 * 4 * 3)
        "clip_adam_norm_convex",
        {**CONVEX, **ALPHA_TWO, "sigma": 3.0, "b1": 0.75},
        {
            "learning_rate": 2.0,
            "threshold": 64.0,
            "b_init": 288.0,
            "b1": 0.75,
            "b2": 15 / 16,
            "delay": 1,
        },
    ),
    (
        "clip_radagrad_norm_convex",
        {**CONVEX, **ALPHA_LOW, "sigma": 8.0, "b_init": 9.0},
        {"learning_rate": 0.5, "threshold": 18.0, "b_init": 9.0, "reweight": 1 / 16},
    ),
    (  # the first bound decides: 1/(16 * 2 * 64) against 1/32 and 1/32
        "clip_adagrad_norm_nonconvex",
        {**NONCONVEX, **SHORT, "sigma": 4.0},
        {"learning_rate": ROOT, "threshold": 64.0, "b_init": ROOT * 2**11, "b1": None, "delay": 1},
    ),
    (  # the second: 2^-16 against 2^-15 and 2^-15.5
        "clip_adagrad_norm_nonconvex",
        {**NONCONVEX, **LONG, "sigma": 2.0},
        {"learning_rate": ROOT, "threshold": 128.0, "b_init": ROOT * 2**16, "b1": None, "delay": 1},
    ),
    (  # the third: 2^-20 against 2^-11 and 2^-15
        "clip_adagrad_norm_nonconvex",
        {**NONCONVEX, **SHORT, "sigma": 4096.0},
        {"learning_rate": ROOT, "threshold": 2**15, "b_init": ROOT * 2**20, "b1": None, "delay": 1},
    ),
    (  # momentum of 3/4 costs the first bound 16, the threshold 16/2
        "clip_adagrad_norm_nonconvex",
        {**NONCONVEX, **SHORT, "sigma": 4.0, "b1": 0.75, "b_init": 2.0**15},
        {"learning_rate": 1.0, "threshold": 512.0, "b_init": 2.0**15, "b1": 0.75, "delay": 1},
    ),
    (  # and the third bound the fourth root of 4
        "clip_adam_norm_nonconvex",
        {**NONCONVEX, **SHORT, "sigma": 4096.0, "b1": 0.75},
        {
            "learning_rate": ROOT,
            "threshold": 2**14.5,
            "b_init": 2.0**21,
            "b1": 0.75,
            "b2": 31 / 32,
            "delay": 1,
        },
    ),
    (  # without delay no horizon in A, and no factors of the momentum
        "clip_adam_norm_nonconvex",
        {**NONCONVEX, **UNDELAYED, "sigma": 2.0, "b1": 0.75},
        {
            "learning_rate": ROOT,
            "threshold": 128.0,
            "b_init": ROOT * 2**16,
            "b1": 0.75,
            "b2": 1 - 2.0**-25,
            "delay": None,
        },
    ),
    (
        "clip_adagrad_norm_nonconvex",
        {**NONCONVEX, **UNDELAYED, "sigma": 2.0},
        {
            "learning_rate": ROOT,
            "threshold": 128.0,
            "b_init": ROOT * 2**16,
            "b1": None,
            "delay": None,
        },
    ),
    (  # A = ln(4 * 28/delta): steps are K here. The smoothness decides, 1/8 against 2/(1/4 * 9 * 2)
        "clip_sgd_convex",
        {**CONVEX, **ALPHA_LOW, "sigma": 0.25, "failure_probability": 112 * math.exp(-8)},
        {"learning_rate": 1 / 8, "threshold": 4.0},
    ),
    (  # the noise: 2/(8 * 9 * 2) = 1/72
        "clip_sgd_convex",
        {**CONVEX, **ALPHA_LOW, "sigma": 8.0, "failure_probability": 112 * math.exp(-8), "c": 2.0},
        {"learning_rate": 1 / 72, "threshold": 9.0},
    ),
    (  # 256 = 4^4
        "clip_normalized_momentum_nonconvex",
        {"moment": 3.0, "alpha": 2.0, "steps": 256, "scale": 8.0},
        {"learning_rate": 8 / 64, "threshold": 12.0, "decay": 15 / 16},
    ),
    (  # 1024 = 4^5 = (2^10): powers 4/5, 2/5 and 3/5
        "clip_normalized_momentum_nonconvex",
        {"moment": 3.0, "alpha": 1.5, "steps": 1024, "scale": 1.0},
        {"learning_rate": 1 / 256, "threshold": 48.0, "decay": 63 / 64},
    ),
]
OPTIMIZERS = {
    "sgd_": "sgd",
    "clip_sgd_": "clip_sgd",
    "normalized_sgd_": "normalized_sgd",
    "clip_adagrad_norm_": "clip_adagrad_norm",
    "clip_adam_norm_": "clip_adam_norm",
    "clip_radagrad_norm_": "clip_radagrad_norm",
    "clip_normalized_momentum_": "clip_normalized_momentum",
}
EACH = pytest.mark.parametrize(
    ("name", "problem", "expected"),
    BY_HAND,
    ids=[f"{name}-{place}" for place, (name, _, _) in enumerate(BY_HAND)],
)


def optimizer_of(name):
    """The factory whose name a theorem's begins with."""
    (found,) = [ours for prefix, ours in OPTIMIZERS.items() if name.startswith(prefix)]
    return optax.sgd if found == "sgd" else getattr(clipax, found)


def test_every_theorem_is_computed_by_hand_here():
    functions = dict(inspect.getmembers(theory, inspect.isfunction))
    given = {name: inspect.signature(one).return_annotation for name, one in functions.items()}
    theorems = {name for name, result in given.items() if str(result).endswith("Parameters")}
    assert theorems == {name for name, _, _ in BY_HAND}


@EACH
def test_the_result_is_the_formula(name, problem, expected):
    found = getattr(theory, name)(**problem)
    assert found._asdict().keys() == expected.keys()
    for field, value in found._asdict().items():
        if expected[field] is None:
            assert value is None
        else:
            assert value == pytest.approx(expected[field], rel=1e-12), field
            assert type(value) is (int if field == "delay" else float), field


@EACH
def test_the_optimizer_takes_the_result_as_it_is(name, problem, expected):
    parameters = getattr(theory, name)(**problem)._asdict()
    factory = optimizer_of(name)
    assert parameters.keys() <= inspect.signature(factory).parameters.keys()
    optimizer = factory(**parameters)
    gradient = jnp.array([3e12, 4e12])
    update, _ = jax.jit(optimizer.update)(gradient, optimizer.init(gradient), gradient)
    # Against a gradient that is sure to be clipped, the first step is known in closed form.
    length = parameters["learning_rate"]
    if "decay" not in parameters:
        length *= parameters.get("threshold", 1.0)
    if name.startswith("sgd_"):
        length *= 5e12
    if "b_init" in parameters:
        length *= 1 - (parameters.get("b1") or 0.0)
        scale, memory = parameters["b_init"], 1 - parameters.get("b2", 0.0)
        if "delay" in parameters and parameters["delay"] is None:
            kept = parameters.get("b2", 1.0)
            scale = math.sqrt(kept * scale**2 + memory * parameters["threshold"] ** 2)
        length /= scale
    np.testing.assert_allclose(update, -length * np.array([0.6, 0.8]), rtol=1e-5)


# Units as powers of (gradient, length); what is not named is a pure number.
UNITS = {
    "l0": (1, -1),
    "l1": (0, -1),
    "smoothness": (1, -1),
    "radius": (0, 1),
    "gap": (1, 1),
    "sigma": (1, 0),
    "moment": (1, 0),
    "noise_bound": (1, 0),
    "gradient_bound": (1, 0),
    "scale": (0, 1),
    "threshold": (1, 0),
    "b_init": (1, 0),
    "offset": (1, 0),
    "eps": (1, 0),
}
STEP, LENGTH = (-1, 1), (0, 1)
# Where a bound without units acts, 1/sqrt(T) or (with a small L1) 10 L0, results depend on them.
UNITLESS = [
    problem
    for name, problem, _ in BY_HAND
    if problem.get("l1") == 0.01 or (name.endswith("bounded_noise") and problem["steps"] > 100)
]


@pytest.mark.parametrize("unit", [(8.0, 1.0), (1.0, 0.25), (3.0, 5.0)])
@pytest.mark.parametrize(
    ("name", "problem", "expected"), [case for case in BY_HAND if case[1] not in UNITLESS]
)
def test_results_change_with_the_units_and_not_otherwise(name, problem, expected, unit):
    def factor(field):
        power = UNITS.get(field, (0, 0))
        if field == "learning_rate":
            power = STEP if name.startswith(("sgd_", "clip_sgd_")) else LENGTH
        return unit[0] ** power[0] * unit[1] ** power[1]

    rescaled = {name: value * factor(name) for name, value in problem.items() if name in UNITS}
    found = getattr(theory, name)(**{**problem, **rescaled})._asdict()
    for field, value in expected.items():
        if value is not None:
            assert found[field] == pytest.approx(value * factor(field), rel=1e-12), field


def test_the_unitless_bound_makes_the_threshold_of_theorem_three_depend_on_lengths():
    # In a unit of length 4 times as long: L0 by 16, L1 by 4. Gradients are 4 times as large.
    assert theory.clip_sgd_smooth(l0=2.0, l1=0.01).threshold == 20.0
    assert theory.clip_sgd_smooth(l0=32.0, l1=0.04).threshold == 320.0


def test_the_iterates_do_not_depend_on_the_first_scale_of_the_reweighted_method():
    problem = {**CONVEX, **ALPHA_LOW, "sigma": 8.0}
    plain = theory.clip_adagrad_norm_convex(**problem)
    for b_init in (0.01, 1.0, 300.0):
        found = theory.clip_radagrad_norm_convex(**problem, b_init=b_init)
        # With weight w it is the delayed method with rate and scale divided by the root of w.
        root = math.sqrt(found.reweight)
        assert found.threshold == pytest.approx(plain.threshold, rel=1e-12)
        assert found.learning_rate / root == pytest.approx(plain.learning_rate, rel=1e-12)
        assert found.b_init / root == pytest.approx(plain.b_init, rel=1e-12)


@pytest.mark.parametrize("alpha", [1.1, 1.5, 2.0])
@pytest.mark.parametrize("sigma", [1e-3, 1.0, 1e3])
def test_true_gradients_near_the_solution_are_not_clipped(alpha, sigma):
    problem = {"smoothness": 3.0, "radius": 0.5, "steps": 1000, "failure_probability": 0.01}
    noisy = {**problem, "alpha": alpha, "sigma": sigma}
    reach = problem["smoothness"] * problem["radius"]
    least = 1 - 1e-12
    assert theory.clip_adagrad_norm_convex(**noisy).threshold >= 4 * reach * least
    assert theory.clip_adam_norm_convex(**noisy, b1=0.9).threshold >= 4 * reach * least
    assert theory.clip_sgd_convex(**noisy).threshold >= 2 * reach * least
