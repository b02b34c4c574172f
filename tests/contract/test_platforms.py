"""The forms for GPU and TPU compute the same as that for the CPU: they are run on the CPU here."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest

from clipax._platforms import assume_platform
from tests.contract.cases import BASIC, CASES
from tests.contract.gradients import NESTED, flatten, heavy_tailed, nest, parameters
from tests.contract.harness import assert_all_finite, assert_close, jitted, method, run
from tests.thorough import thorough

STEPS = 16
BAD = {0: np.nan, 4: np.inf, 5: -np.inf, 10: np.nan}

# Every form that differs: rules with and without memory, units, momenta, guards, derived values.
ON_TPU = (
    "clip_by_param_norm",
    "clip_by_leaf_norm",
    "clip_adagrad_norm",
    "skip_nonfinite",
    "stable_adamw",
    "with_error_feedback",
)
JOBS = [("gpu", name) for name in BASIC] + [("tpu", name) for name in ON_TPU]
QUICK = [(platform, name) for name in ON_TPU for platform in ("gpu", "tpu")]


def _gradients(scale: float = 1.0) -> list[Any]:
    gradients = [nest(gradient) for gradient in heavy_tailed(NESTED, STEPS)]
    for step, value in BAD.items():
        kernel = gradients[step]["dense"]["kernel"].at[1, 2].set(value)
        gradients[step]["dense"] |= {"kernel": kernel}
    return jax.tree.map(lambda leaf: leaf * np.asarray(scale, leaf.dtype), gradients)


@pytest.mark.parametrize(("platform", "name"), thorough(JOBS, QUICK))
def test_a_run_with_bad_steps_against_the_oracle(platform: Any, name: str) -> None:
    params, gradients = nest(parameters(NESTED)), _gradients()
    with assume_platform(platform):
        updates, states = run(jitted(name), method(name).init(params), gradients, params)
    expected = CASES[name].reference([flatten(gradient) for gradient in gradients], flatten(params))
    for update, reference in zip(updates, expected, strict=True):
        size = max(
            np.abs(leaf).max(initial=0.0, where=np.isfinite(leaf)) for leaf in reference.values()
        )
        for path, leaf in reference.items():
            np.testing.assert_allclose(
                flatten(update)[path], leaf, rtol=1e-5, atol=1e-5 * size, err_msg=path
            )
    assert_all_finite(states)


@pytest.mark.parametrize("scale", [1e-18, 1e30])
@pytest.mark.parametrize("platform", ["gpu", "tpu"])
@pytest.mark.parametrize("name", ["clip_by_global_norm", "clip_by_leaf_norm", "clip_by_param_norm"])
def test_the_whole_range_as_on_a_cpu(name: str, platform: Any, scale: float) -> None:
    params, gradients = nest(parameters(NESTED)), _gradients(scale)
    ends = []
    for form in ("cpu", platform):
        with assume_platform(form):
            ends.append(run(jitted(name), method(name).init(params), gradients, params))
    assert_close(ends[1], ends[0], 1e-5)
