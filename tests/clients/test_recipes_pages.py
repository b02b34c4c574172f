"""Recipes, and the lines that log, with the libraries that they are for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
import pytest
from tensorboardX import SummaryWriter

import clipax
from tests.docs.blocks import ROOT, python_blocks


def run_blocks(page: str) -> dict[str, Any]:
    names: dict[str, Any] = {}
    for _, block in python_blocks((ROOT / page).read_text()):
        exec(compile(block, page, "exec", dont_inherit=True), names)
    return names


@pytest.fixture(scope="module")
def page() -> dict[str, Any]:
    return run_blocks("docs/recipes.md")


def test_equinox(page: dict[str, Any]) -> None:
    assert float(clipax.metrics(page["opt_state"])["grad_norm"]) > 0
    model = page["model"]
    for wrap in (clipax.skip_nonfinite, clipax.skip_spikes):
        optimizer = wrap(optax.chain(clipax.clip_by_param_norm(0.01), optax.adamw(1e-3)))
        state = optimizer.init(eqx.filter(model, eqx.is_array))
        grads = eqx.filter_grad(lambda model: jnp.sum(jax.vmap(model)(jnp.ones((2, 4)))))(model)
        updates, _ = optimizer.update(grads, state, model)
        assert float(optax.tree.norm(eqx.filter(updates, eqx.is_array))) > 0


def test_tensorboard(tmp_path: Path) -> None:
    page = run_blocks("docs/telemetry.md")
    clip = clipax.clip_by_global_norm(1.0)
    _, state = clip.update(page["grads"], clip.init(page["grads"]))
    with SummaryWriter(str(tmp_path)) as writer:
        page["log_to_tensorboard"](writer, 3, state)
    (events,) = tmp_path.iterdir()
    assert b"clip/clipped_norm" in events.read_bytes()
