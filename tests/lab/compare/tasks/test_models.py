"""Models: the data they take, and their initial weights."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from flax import nnx

from clipax.lab._compare.tasks.data import load_data
from clipax.lab._compare.tasks.models import check_model, make_model
from clipax.lab._errors import InputError

Y = np.arange(60) % 3


@pytest.mark.parametrize("shape", [(8, 8), (7, 9, 3)])
def test_models_take_images_with_and_without_channels(save, shape):
    data = load_data(save(x=np.random.default_rng(1).normal(size=(60, *shape)), y=Y))
    for name in ("mlp", "cnn"):
        check_model(name, data)
        logits = jax.eval_shape(
            lambda name=name: make_model(name, data, jax.random.key(0))(data.test.x)
        )
        assert logits.shape == (len(data.test), 3)


def test_models_are_functions_of_the_key():
    data = load_data("wine")
    first, again, other = (
        nnx.state(make_model("mlp", data, jax.random.key(seed))) for seed in (1, 1, 2)
    )
    kernels = [state["first"]["kernel"][...] for state in (first, again, other)]
    np.testing.assert_array_equal(kernels[0], kernels[1])
    assert not np.array_equal(kernels[0], kernels[2])


def test_models_that_do_not_fit_are_refused():
    data = load_data("wine")
    with pytest.raises(InputError, match=r"model cnn needs images.*wine have shape .13,"):
        check_model("cnn", data)
    with pytest.raises(InputError, match=r"unknown model .vgg.\. Known: mlp, cnn"):
        check_model("vgg", data)
