"""Every function of `clipax.theory` refuses every bad argument, with its name, rule and value."""

from __future__ import annotations

import inspect
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from clipax import theory

FUNCTIONS = dict(inspect.getmembers(theory, inspect.isfunction))
GOOD = {
    **dict.fromkeys(("l0", "l1", "smoothness", "radius", "gap", "sigma", "moment"), 2.0),
    **dict.fromkeys(("noise_bound", "gradient_bound", "threshold", "scale", "constant"), 2.0),
    "alpha": 1.5,
    "b1": 0.5,
    "b_init": 2.0,
    "c": 0.5,
    "c1": 1.0,
    "c2": 4.0,
    "delayed": True,
    "failure_probability": 0.1,
    "order": 2.0,
    "quantile": 0.5,
    "steps": 10,
}
NAN, INF = math.nan, math.inf
SECTIONS = ("Args", "Returns", "Example", "References")
# Rule, in the words of the message, and values that break it; for all others, the last row.
RULES = {
    "alpha": ("in (1, 2]", [1.0, 0.5, 2.001, -1.5, NAN, INF]),
    "failure_probability": ("in (0, 1)", [0.0, 1.0, -0.1, 1.5, NAN]),
    "quantile": ("in (0, 1)", [0.0, 1.0, -0.1, 1.5, NAN]),
    "b1": ("in [0, 1)", [1.0, -0.1, 2.0, NAN]),
    "order": ("in [1, inf)", [0.5, 0.0, -2.0, INF, NAN]),
    "steps": ("at least 1", [0, -3]),
}
POSITIVE = ("positive and finite", [0.0, -1.0, NAN, INF])
ARGUMENTS = [
    (name, argument)
    for name, function in FUNCTIONS.items()
    for argument in inspect.signature(function).parameters
]
NUMBERS = [(name, argument) for name, argument in ARGUMENTS if argument != "delayed"]
# None for no momentum, and for a default that follows from other arguments.
OPTIONAL = [
    (name, argument)
    for name, argument in ARGUMENTS
    if argument == "b1" or inspect.signature(FUNCTIONS[name]).parameters[argument].default is None
]
BAD = [
    (name, argument, value)
    for name, argument in NUMBERS
    for value in RULES.get(argument, POSITIVE)[1]
]


def call(name, **changed):
    """The function on good arguments, some replaced."""
    arguments = {argument: GOOD[argument] for function, argument in ARGUMENTS if function == name}
    return FUNCTIONS[name](**{**arguments, **changed})


@pytest.mark.parametrize(("name", "argument", "value"), BAD)
def test_values_out_of_range(name, argument, value):
    rule = RULES.get(argument, POSITIVE)[0]
    with pytest.raises(ValueError) as caught:  # noqa: PT011  (the whole text is compared)
        call(name, **{argument: value})
    assert str(caught.value) == f"`{argument}` must be {rule}, got {value!r}."


@pytest.mark.parametrize(("name", "argument"), NUMBERS)
@pytest.mark.parametrize("value", ["1.0", True, [1.0], object()])
def test_what_is_no_number(name, argument, value):
    with pytest.raises(TypeError, match=f"`{argument}` must be a"):
        call(name, **{argument: value})


@pytest.mark.parametrize(("name", "argument"), NUMBERS)
def test_none_stands_for_nothing_only_where_it_is_documented(name, argument):
    if (name, argument) in OPTIONAL:
        call(name, **{argument: None})
    else:
        with pytest.raises(TypeError, match=f"`{argument}` must be a"):
            call(name, **{argument: None})


@pytest.mark.parametrize(("name", "argument"), NUMBERS)
def test_traced_numbers_are_refused(name, argument):
    with pytest.raises(TypeError, match=f"`{argument}` must be a concrete"):
        jax.jit(lambda value: call(name, **{argument: value}))(GOOD[argument])


@pytest.mark.parametrize("name", FUNCTIONS)
def test_any_concrete_scalar_will_do_and_gives_python_numbers(name):
    for kind in (np.float64, np.array, jnp.array):
        numbers = {
            argument: kind(GOOD[argument])
            for function, argument in NUMBERS
            if function == name and argument != "steps"
        }
        found, plain = call(name, **numbers), call(name)
        values = [found] if isinstance(found, float) else list(found)
        assert [type(value) for value in values] == [
            type(value) for value in ([plain] if isinstance(plain, float) else plain)
        ]
        np.testing.assert_allclose(
            np.array(values, np.float64), np.array(plain, np.float64).reshape(-1), rtol=1e-6
        )


@pytest.mark.parametrize("name", [name for name, argument in ARGUMENTS if argument == "steps"])
def test_steps_are_a_whole_number(name):
    for value in (10.0, "10", 1e3):
        with pytest.raises(TypeError, match="`steps` must be"):
            call(name, steps=value)
    call(name, steps=np.int64(10))
    call(name, steps=1)


@pytest.mark.parametrize("name", [name for name, argument in ARGUMENTS if argument == "delayed"])
@pytest.mark.parametrize("value", [1, None, "yes"])
def test_delayed_is_true_or_false(name, value):
    with pytest.raises(TypeError, match="`delayed` must be True or False, got"):
        call(name, delayed=value)


@pytest.mark.parametrize("name", [name for name, argument in ARGUMENTS if argument == "c2"])
def test_the_ratio_of_the_constants_is_at_least_four(name):
    with pytest.raises(ValueError, match=r"`c2` must be at least 4 `c1` = 8, got 7\.9\."):
        call(name, c1=2.0, c2=7.9)
    call(name, c1=2.0, c2=8.0)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_problem_is_given_by_name(name):
    parameters = inspect.signature(FUNCTIONS[name]).parameters.values()
    if not name.endswith("_bias"):
        assert all(one.kind is inspect.Parameter.KEYWORD_ONLY for one in parameters)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_docstrings_have_their_sections_and_every_argument(name):
    text = inspect.getdoc(FUNCTIONS[name])
    places = [
        text.index(f"\n{section}:") for section in ("Args", "Returns", "Example", "References")
    ]
    assert places == sorted(places)
    assert re.search(r"\n\n {4}\S", text[: text.index("\nArgs:")])  # a formula
    assert ">>> " in text[text.index("\nExample:") : text.index("\nReferences:")]
    described = text[text.index("\nArgs:") : text.index("\nReturns:")]
    for argument in inspect.signature(FUNCTIONS[name]).parameters:
        assert f"\n  {argument}: " in described, argument
