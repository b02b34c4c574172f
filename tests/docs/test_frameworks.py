"""The recipes of docs/frameworks.md do their work where the frameworks call them."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from flax.training.train_state import TrainState
from jax.sharding import NamedSharding, PartitionSpec

import clipax
from tests.docs.blocks import NEEDS, ROOT, python_blocks
from tests.docs.frameworks import axlearn, callers, easydel, install, kauldron, levanter, praxis

PAGE = (ROOT / "docs" / "frameworks.md").read_text()
IN_CLIENTS = {"keras"}  # tests/clients/test_recipes_frameworks.py

PARAMS = {"dense": {"kernel": jnp.ones((4, 2)), "bias": jnp.zeros(2)}}
SPIKE = jax.tree.map(lambda leaf: jnp.full(leaf.shape, 1e3), PARAMS)
METHODS = {
    "number": lambda: clipax.clip_by_global_norm(1.0),
    "leaves": lambda: clipax.clip_by_leaf_norm(clipax.thresholds.median(2.0, window=5)),
    "units": lambda: clipax.clip_by_param_norm(0.01),
    "memory like the parameters": lambda: clipax.with_error_feedback(
        clipax.clip_by_global_norm(1.0)
    ),
    "more axes than the parameters": lambda: clipax.delay_updates(2),
    "no state": lambda: optax.clip_by_global_norm(1.0),
}


@pytest.fixture(autouse=True)
def one_device() -> None:
    """axlearn's specs are of several."""


def recipe(title: str) -> dict[str, Any]:
    """Run the blocks of a section, and return what they define."""
    (section,) = re.findall(rf"^## {title}\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE)
    names: dict[str, Any] = {"__name__": __name__}  # of the module, for `dataclass`
    for _, block in python_blocks(section):
        exec(compile(block, "docs/frameworks.md", "exec", dont_inherit=True), names)
    return names


def norm(tree: Any) -> float:
    return float(optax.tree.norm(tree))


def test_every_framework_that_is_needed_is_tested() -> None:
    needed = {
        block.splitlines()[0].removeprefix(NEEDS)
        for _, block in python_blocks(PAGE)
        if block.startswith(NEEDS)
    }
    here = {copy.__name__.rpartition(".")[2] for copy in (axlearn, easydel, kauldron, levanter)}
    assert needed == here | {"praxis"} | IN_CLIENTS


def test_maxtext() -> None:
    names = recipe("MaxText")
    clip = clipax.clip_by_median(1.0, window=3)
    tx = names["clip_first"](clip, optax.adamw(1e-3))
    chain = optax.chain(clip, optax.adamw(1e-3))
    state, expected = tx.init(PARAMS), chain.init(PARAMS)
    assert isinstance(state[0], optax.ScaleByAdamState)
    for size in (1e-3, 2e-3, 1.0):
        grads = jax.tree.map(lambda leaf: size * leaf, SPIKE)  # noqa: B023
        updates, state = tx.update(grads, state, PARAMS, loss=jnp.ones(()))
        wanted, expected = chain.update(grads, expected, PARAMS)
        assert jax.tree.all(jax.tree.map(jnp.array_equal, updates, wanted))
    ours, theirs = clipax.metrics(state), clipax.metrics(expected)
    assert ours == theirs
    assert float(ours["clip_fraction"]) > 0


def test_maxtext_with_an_optimizer_that_is_no_chain() -> None:
    tx = recipe("MaxText")["clip_first"](
        clipax.clip_by_global_norm(1.0), optax.chain(optax.scale_by_adam())
    )
    _, state = tx.update(SPIKE, tx.init(PARAMS), PARAMS)
    assert isinstance(state[0], optax.ScaleByAdamState)
    assert float(clipax.metrics(state)["clipped_norm"]) == pytest.approx(1.0)


@pytest.mark.parametrize("skips", [False, True])
def test_maxtext_steps_it_in_an_nnx_optimizer(skips: bool) -> None:
    names = recipe("MaxText")
    model = nnx.Linear(4, 2, rngs=nnx.Rngs(0))
    tx = names["clip_first"](clipax.clip_by_leaf_norm(1.0), optax.adamw(1e-3))
    tx = callers.maxtext_skip_spikes(tx) if skips else tx
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    grads = nnx.grad(lambda model: 100 * jnp.sum(model(jnp.ones(4)) ** 2))(model)
    optimizer.update(model, grads, **({"loss": jnp.ones(())} if skips else {}))
    scalars = names["clip_scalars"](optimizer)
    assert float(scalars["clip/clipped_norm"]) == pytest.approx(1.0)
    assert all(value.ndim == 0 for value in scalars.values())
    assert len(callers.maxtext_find_mu(nnx.state(optimizer).opt_state)) == 1
    if not skips:
        saved = callers.maxtext_checkpoint(optimizer)
        assert None in saved  # weight decay has no state
        assert clipax.metrics(saved, top=0) == clipax.metrics(optimizer, top=0)
        assert clipax.block_names(saved) == ("bias", "kernel")


def test_levanter(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, levanter, "levanter", "levanter.tracker", "levanter.optim")
    install(monkeypatch, levanter, "levanter.optim.config")
    names = recipe("Levanter and Marin")
    kind = names["OptimizerConfig"].get_choice_class("zclip_adam")
    assert kind is names["ZClipAdamConfig"]
    tx = kind(lr_schedule="constant", warmup=0, weight_decay=0.0).build(100)

    @jax.jit
    def step(state: Any, grads: Any) -> tuple[Any, Any, dict[str, Any]]:
        with names["levanter"].tracker.defer_tracker_for_jit() as logged:
            updates, state = tx.update(grads, state, params=PARAMS, obj_fn=None, loss=1.0)
        clip = {name: value for name, value in logged.items() if name.startswith("optim/")}
        return updates, state, clip

    updates, state, logged = step(tx.init(PARAMS), SPIKE)
    assert float(logged["optim/grad_norm"]) == pytest.approx(norm(SPIKE))
    assert all(value.ndim == 0 for value in logged.values())
    np.testing.assert_allclose(updates["dense"]["bias"], -6e-4, rtol=1e-4)  # Adam's first step
    assert float(state.hyperparams["learning_rate"]) == pytest.approx(6e-4)


@pytest.mark.parametrize("method", METHODS)
def test_axlearn(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, axlearn, "axlearn", "axlearn.common", "axlearn.common.optimizer_base")
    install(monkeypatch, axlearn, "axlearn.common.optimizers")
    tx = recipe("axlearn")["partitioned"](METHODS[method]())
    axes = {"dense": {"kernel": PartitionSpec("data", "model"), "bias": PartitionSpec("model")}}
    specs = jax.tree.map(
        lambda leaf, mesh_axes: axlearn.OptStateSpec(leaf.shape, leaf.dtype, mesh_axes),
        PARAMS,
        axes,
    )
    params = jax.tree.map(axlearn.OptParam, PARAMS)
    state, found = tx.init(params), tx.partition(specs)
    assert jax.tree.structure(found) == jax.tree.structure(state)
    for leaf, spec in zip(jax.tree.leaves(state), jax.tree.leaves(found), strict=True):
        assert (leaf.shape, leaf.dtype) == (spec.shape, spec.dtype)
    if "memory" in method or "more axes" in method:
        assert ("data", "model") in {spec.mesh_axes[-2:] for spec in jax.tree.leaves(found)}

    mesh = jax.make_mesh((2, 2), ("data", "model"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    place = jax.tree.map(lambda spec: NamedSharding(mesh, spec.mesh_axes), found)
    state = jax.device_put(state, place)
    _, after = jax.jit(
        lambda grads, state: tx.update(grads, state, params), out_shardings=(None, place)
    )(SPIKE, state)
    assert jax.tree.map(lambda leaf: leaf.sharding, after) == place


@pytest.mark.parametrize("method", METHODS)
def test_praxis(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, praxis, "praxis", "praxis.base_layer", "praxis.optimizers")
    tx = praxis.sharded_chain(recipe("praxis and paxml")["sharded"](METHODS[method]()))
    specs = jax.tree.map(lambda leaf: praxis.WeightHParams(leaf.shape, None, leaf.dtype), PARAMS)
    (found,) = tx.init_partition_spec(specs).inner_state
    state = tx.init(PARAMS)
    assert jax.tree.structure(found) == jax.tree.structure(state[0])
    plain = METHODS[method]()
    expected = plain.init(PARAMS)
    for _ in range(3):  # from the second step on with `MaskedNode` in the state
        updates, state = tx.update(SPIKE, state, PARAMS)
        wanted, expected = plain.update(SPIKE, expected, PARAMS)
        assert norm(updates) == pytest.approx(norm(wanted))


def test_easydel(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, easydel, "easydel", "easydel.trainers")
    tx, _ = recipe("EasyDeL")["ClippedArguments"]().get_optimizer_and_scheduler(10)
    params, state = easydel.apply_gradients(tx, PARAMS, tx.init(PARAMS), SPIKE)
    assert norm(jax.tree.map(jnp.subtract, params, PARAMS)) > 0
    assert float(clipax.metrics(state)["grad_norm"]) == pytest.approx(norm(SPIKE))


@pytest.mark.filterwarnings("ignore:.*value.* access is now deprecated")
def test_tunix() -> None:
    model = nnx.Linear(4, 2, rngs=nnx.Rngs(0))
    ours = nnx.Optimizer(model, recipe("Tunix")["optimizer"], wrt=nnx.Param)
    assert float(callers.tunix_learning_rate(ours)) == pytest.approx(1e-5)
    adamw = optax.inject_hyperparams(optax.adamw)(learning_rate=1e-5)
    chain = optax.chain(optax.clip_by_global_norm(0.1), adamw)
    assert callers.tunix_learning_rate(nnx.Optimizer(model, chain, wrt=nnx.Param)) is None
    ours.update(model, nnx.grad(lambda model: jnp.sum(model(jnp.ones(4)) ** 2))(model))
    assert float(clipax.metrics(ours)["threshold"]) == pytest.approx(0.1)


def test_kauldron(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, kauldron, "kauldron", "kauldron.kd", "kauldron.kontext")
    names = recipe("Kauldron")
    tx = names["optimizer"]
    state = tx.init(PARAMS)
    _, state = tx.update(SPIKE, state, PARAMS)
    context = SimpleNamespace(opt_state=state)
    found = {
        name: float(metric.get_state_from_context(context).compute())
        for name, metric in names["train_metrics"].items()
    }
    assert found == {"grad_norm": pytest.approx(norm(SPIKE)), "recent_clip_fraction": 0.0}


def test_brax() -> None:
    def loss(params: Any) -> Any:
        return 1e3 * sum(jnp.sum(leaf) for leaf in jax.tree.leaves(params))

    tx = recipe("brax")["optimizer"]
    step = callers.brax_gradient_update(loss, tx)
    _, params, state = jax.jit(step)(PARAMS, optimizer_state=tx.init(PARAMS))
    assert float(clipax.metrics(state)["grad_norm"]) == pytest.approx(norm(SPIKE))
    assert norm(jax.tree.map(jnp.subtract, params, PARAMS)) > 0
    agc = clipax.clip_by_param_norm(0.01)
    with pytest.raises(ValueError, match="`params`"):
        callers.brax_gradient_update(loss, agc)(PARAMS, optimizer_state=agc.init(PARAMS))


def test_sbx() -> None:
    names = recipe("sbx")
    before = TrainState.create(
        apply_fn=None, params=PARAMS, tx=optax.chain(optax.clip(1.0), optax.adam(1e-3))
    )
    state = names["replace_clip"](before, names["watched"], optax.adam, learning_rate=3e-4)
    state.opt_state[1].hyperparams["learning_rate"] = 1e-2  # as `_update_learning_rate`
    state = jax.jit(lambda state: state.apply_gradients(grads=SPIKE))(state)
    moved = jax.tree.map(jnp.subtract, state.params, PARAMS)
    np.testing.assert_allclose(moved["dense"]["bias"], -1e-2, rtol=1e-4)
    assert float(clipax.metrics(state)["monitor/grad_norm"]) == pytest.approx(norm(SPIKE))
