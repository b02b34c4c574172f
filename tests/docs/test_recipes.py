"""Recipes, and the lines that log, do what their pages say, beyond what the blocks print."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import clipax
from tests.docs.blocks import NEEDS, ROOT, python_blocks


def run_blocks(page: str) -> dict[str, Any]:
    """What the blocks of a page define."""
    names: dict[str, Any] = {}
    for _, block in python_blocks((ROOT / page).read_text()):
        if not block.startswith(NEEDS):
            exec(compile(block, page, "exec", dont_inherit=True), names)
    return names


@pytest.fixture(scope="module")
def page() -> dict[str, Any]:
    """What the recipes define."""
    return run_blocks("docs/recipes.md")


@pytest.fixture(scope="module")
def telemetry() -> dict[str, Any]:
    """What the page on logging defines."""
    return run_blocks("docs/telemetry.md")


def assert_close(first: Any, second: Any, rtol: float = 1e-6) -> None:
    jax.tree.map(
        lambda one, other: np.testing.assert_allclose(one, other, rtol=rtol), first, second
    )


class SummaryWriter:
    """The method of tensorboardX's and torch's writers."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, int], float] = {}

    def add_scalar(
        self,
        tag: str,
        scalar_value: float,
        global_step: int | None = None,
        walltime: float | None = None,
    ) -> None:
        assert isinstance(scalar_value, float)
        assert global_step is not None
        self.rows[tag, global_step] = scalar_value


class Run(SummaryWriter):
    """`wandb.Run.log`."""

    def log(
        self, data: dict[str, Any], step: int | None = None, commit: bool | None = None
    ) -> None:
        for name, value in data.items():
            self.add_scalar(name, value, step)


class MetricWriter(SummaryWriter):
    """`clu.metric_writers.MetricWriter.write_scalars`."""

    def write_scalars(self, step: int, scalars: Mapping[str, Any]) -> None:
        for name, value in scalars.items():
            self.add_scalar(name, value, step)


@pytest.mark.parametrize(
    ("function", "writer"),
    [
        ("log_to_tensorboard", SummaryWriter),
        ("log_to_wandb", Run),
        ("log_to_clu", MetricWriter),
    ],
)
@pytest.mark.parametrize("clip", [clipax.clip_by_global_norm(1.0), clipax.clip_by_leaf_norm(1.0)])
def test_logging(telemetry: dict[str, Any], function: str, writer: Any, clip: Any) -> None:
    grads, target = telemetry["grads"], writer()
    _, state = clip.update(grads, clip.init(grads))
    telemetry[function](target, 7, state)
    found = clipax.metrics(state, top=0)
    assert target.rows == {(f"clip/{name}", 7): float(value) for name, value in found.items()}
    assert target.rows["clip/clipped_norm", 7] == pytest.approx(1.0)


def test_the_average_of_small_batches_is_clipped(page: dict[str, Any]) -> None:
    params, sizes = page["params"], (1.0, -3.0, 2.0, 8.0)
    batches = [jax.tree.map(lambda leaf: size * leaf, page["grads"]) for size in sizes]  # noqa: B023
    clip = clipax.clip_by_global_norm(1.0)
    inside = clipax.skip_nonfinite(optax.MultiSteps(optax.chain(clip, optax.sgd(1.0)), 4))
    outside = optax.chain(clip, optax.MultiSteps(optax.sgd(1.0), 4).gradient_transformation())
    results = []
    for tx in (inside, outside):
        state = tx.init(params)
        for batch in batches:
            updates, state = tx.update(batch, state, params)
        results.append(updates)
    # All batches point the same way or back: inside one step of length 1, outside 1 - 1 + 1 + 1.
    assert float(optax.tree.norm(results[0])) == pytest.approx(1.0)
    assert float(optax.tree.norm(results[1])) == pytest.approx(0.5)


def centered_clipping(
    x: np.ndarray, wrong: int | None, sent: float, rounds: int, steps: int
) -> list[np.ndarray]:
    """Centered clipping (arXiv 2012.10333) of workers with a momentum, in float64.

    Each minimises half the squared distance from its row of `x`; one sends `sent` times its
    gradient. The threshold is 0.1, the momentum's decay 0.9, the learning rate 0.2.
    """
    w, middle, momenta = np.zeros(x.shape[1]), np.zeros(x.shape[1]), np.zeros(x.shape)
    found = []
    for _ in range(steps):
        gradients = w - x
        if wrong is not None:
            gradients[wrong] *= sent
        momenta = 0.9 * momenta + 0.1 * gradients
        for _ in range(rounds):
            clipped = []
            for momentum in momenta:
                offset = momentum - middle
                size = np.linalg.norm(offset)
                if not np.isfinite(size):
                    continue
                clipped.append(offset * min(1.0, 0.1 / size) if size else offset)
            middle = middle + sum(clipped) / len(momenta)
        w = w - 0.2 * middle
        found.append(w)
    return found


@pytest.mark.parametrize("rounds", [1, 3])
@pytest.mark.parametrize("bad", [None, -100.0, 1e30, np.nan])
def test_centered_clipping_is_that_of_the_paper(
    page: dict[str, Any], rounds: int, bad: float | None, x64: None
) -> None:
    x = np.tile([1.0, -2.0], (8, 1)) + 0.1 * np.random.default_rng(0).normal(size=(8, 2))
    expected = centered_clipping(x, None if bad is None else 3, bad or 0.0, rounds, 200)

    def step(w: Any, middle: Any, momentum: Any, x: Any) -> Any:
        own = jax.lax.pcast(w, "workers", to="varying")
        gradient = jax.grad(lambda w: jnp.sum((w - x[0]) ** 2) / 2)(own)
        if bad is not None:
            wrong = jax.lax.axis_index("workers") == 3
            gradient = jnp.where(wrong, bad, 1.0) * gradient
        momentum = 0.9 * momentum + 0.1 * gradient
        middle = page["center"](momentum[0], middle, rounds=rounds)
        return w - 0.2 * middle, middle, momentum

    mapped = jax.jit(jax.shard_map(step, mesh=page["workers"], **page["specs"]))
    w, middle, momentum = jnp.zeros(2), jnp.zeros(2), jnp.zeros((8, 2))
    for wanted in expected:
        w, middle, momentum = mapped(w, middle, momentum, x)
        np.testing.assert_allclose(w, wanted, rtol=1e-9, atol=1e-12)
    good = np.delete(x, 3, axis=0).mean(axis=0) if bad is not None else x.mean(axis=0)
    # Whatever one of them sends: it moves a step by no more than its share of the threshold.
    assert np.linalg.norm(np.asarray(w) - good) < 0.1


def test_one_worker_of_eight_does_not_rule_the_step(page: dict[str, Any]) -> None:
    x = jnp.tile(jnp.array([1.0, -2.0]), (8, 1))
    np.testing.assert_allclose(page["w"], x[0], atol=0.05)
    # The mean of what the workers send points uphill.
    w, momentum = jnp.zeros(2), jnp.zeros((8, 2))
    scale = jnp.where(jnp.arange(8) == 3, -100.0, 1.0)[:, None]
    for _ in range(200):
        momentum = 0.9 * momentum + 0.1 * scale * (w - x)
        w = w - 0.2 * jnp.mean(momentum, axis=0)
    assert not np.linalg.norm(w) < 1e6


def test_muons_matrices_do_not_touch_the_others(page: dict[str, Any]) -> None:
    params, grads = page["params"], page["grads"]

    def others(optimizer: Any, size: float) -> Any:
        block = grads["block"] | {"kernel": size * grads["block"]["kernel"]}
        updates, _ = optimizer.update(grads | {"block": block}, optimizer.init(params), params)
        return updates["embed"], updates["block"]["bias"]

    assert_close(others(page["muon"], 1e6), others(page["muon"], 1.0), rtol=0)
    # In one global norm they do: SGD's steps shrink with them.
    clip = clipax.clip_by_global_norm(1.0)
    branches = {"muon": optax.contrib.muon(0.02), "adam": optax.sgd(1.0)}
    labels = {"embed": "adam", "block": {"kernel": "muon", "bias": "adam"}}
    naive = optax.chain(clip, optax.partition(branches, labels))
    assert abs(others(naive, 1e6)[0]).max() < 1e-3 * abs(others(naive, 1.0)[0]).max()
    excluding = clipax.scale_by_norm(
        clipax.norms.clip(1.0), scope=clipax.scopes.exclude(page["matrices"])
    )
    fixed = optax.chain(excluding, optax.partition(branches, labels))
    assert_close(others(fixed, 1e6), others(fixed, 1.0), rtol=0)


def test_a_spike_in_the_others_is_skipped(page: dict[str, Any]) -> None:
    params, grads, muon = page["params"], page["grads"], page["muon"]
    state = muon.init(params)
    for size in (1.0, 1.0, 1e6):
        updates, state = muon.update(grads | {"embed": size * grads["embed"]}, state, params)
    assert int(state.spike_count) == 1
    assert not any(jnp.any(leaf) for leaf in jax.tree.leaves(updates))


def test_the_update_is_clipped_by_its_history(page: dict[str, Any]) -> None:
    params, grads = page["params"], page["grads"]
    adam = optax.chain(optax.scale_by_adam(), optax.scale_by_learning_rate(1e-3))
    clipped = optax.chain(
        optax.scale_by_adam(), clipax.clip_by_zscore(), optax.scale_by_learning_rate(1e-3)
    )
    last = {}
    for name, tx in {"adam": adam, "clipped": clipped}.items():
        state, update, rng = tx.init(params), jax.jit(tx.update), np.random.default_rng(0)
        for _ in range(100):  # noise, in which Adam's average is small
            noise = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape), grads)  # noqa: B023
            _, state = update(noise, state, params)
        updates, state = update(jax.tree.map(lambda leaf: 10 * leaf, grads), state, params)
        last[name] = float(optax.tree.norm(updates))
    assert last["clipped"] < 0.5 * last["adam"]


def test_frozen_weights_have_no_part(page: dict[str, Any]) -> None:
    lora, adapters = page["lora"], page["adapters"]
    grads = {**jax.tree.map(jnp.ones_like, lora), "frozen": jnp.full((8, 8), jnp.nan)}
    guarded = clipax.skip_nonfinite(adapters, exclude="frozen")
    for tx in (adapters, guarded):
        updates, state = tx.update(grads, tx.init(lora), lora)
        assert float(clipax.metrics(state)["grad_norm"]) == pytest.approx(np.sqrt(32))
        assert not updates["frozen"].any()
        assert updates["lora_a"].all()


@pytest.mark.parametrize("off", [0, 0.0, -1, None])
def test_off(page: dict[str, Any], off: Any) -> None:
    clip, grads = page["make_clip"](off), page["grads"]
    assert_close(clip.update(grads, clip.init(grads))[0], grads, rtol=0)
    with pytest.raises((ValueError, TypeError), match="`max_norm`"):
        clipax.clip_by_global_norm(off)
    on = page["make_clip"](2.0)
    assert float(optax.tree.norm(on.update(grads, on.init(grads))[0])) == pytest.approx(2.0)


GRADS = {"kernel": np.array([[3.0, 0.0], [0.0, -4.0]]), "bias": np.array([0.3, -0.4])}
TOTAL = np.sqrt(25.25)


def test_the_formulas_of_pytorch() -> None:
    small = jax.tree.map(lambda grad: 1e-3 * grad, GRADS)  # of the norm 5e-3
    clips = clipax.norms.clip(1e-3, offset=1e-6), clipax.norms.clip(1e-3)
    ours, plain = (clipax.scale_by_norm(one) for one in clips)
    grads = jax.tree.map(jnp.float32, small)
    wanted = jax.tree.map(lambda grad: grad * min(1, 1e-3 / (1e-3 * TOTAL + 1e-6)), small)
    assert_close(ours.update(grads, ours.init(grads))[0], wanted)
    ratio = plain.update(grads, plain.init(grads))[0]["kernel"][0, 0] / wanted["kernel"][0, 0]
    assert ratio == pytest.approx(1 + 1e-3 / TOTAL, rel=1e-5)


@pytest.mark.parametrize(
    ("clip", "formula"),
    [
        (clipax.clip_by_global_norm(1.0), lambda grad: grad / TOTAL),
        (clipax.clip_by_leaf_norm(1.0), lambda grad: grad / max(1, np.linalg.norm(grad))),
        (clipax.clip_by_value(1.0), lambda grad: np.clip(grad, -1, 1)),
    ],
    ids=["global_clipnorm", "clipnorm", "clipvalue"],
)
def test_the_formulas_of_keras(clip: Any, formula: Any) -> None:
    grads = jax.tree.map(jnp.float32, GRADS)
    assert_close(clip.update(grads, clip.init(grads))[0], jax.tree.map(formula, GRADS))
