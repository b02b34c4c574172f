"""The lines of MaxText, Tunix, brax and sbx that look into an optimizer's state, or step it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

__all__ = [
    "brax_gradient_update",
    "maxtext_checkpoint",
    "maxtext_find_mu",
    "maxtext_skip_spikes",
    "tunix_learning_rate",
]


def maxtext_find_mu(opt_state: Any) -> list[Any]:
    """`maybe_update_params_sharding_with_opt_nnx` of `utils/sharding.py` (MaxText 0.2.5)."""
    found: list[Any] = []

    def collect(node: Any) -> None:
        if isinstance(node, nnx.Variable):
            return
        if hasattr(node, "get") and "mu" in node:
            found.append(node["mu"])
        elif hasattr(node, "values"):
            for one in node.values():
                collect(one)
        elif isinstance(node, list | tuple):
            for one in node:
                collect(one)

    collect(opt_state)
    return found


def maxtext_skip_spikes(inner: optax.GradientTransformation) -> optax.GradientTransformation:
    """`skip_step_on_spikes` of `optimizers/optimizers.py`, which never finds one here."""
    inner = optax.with_extra_args_support(inner)

    def init(params: Any) -> dict[str, Any]:
        return {"inner_state": inner.init(params), "is_skipped": jnp.array(False)}

    def update(
        updates: Any, state: dict[str, Any], params: Any = None, **extra: Any
    ) -> tuple[Any, dict[str, Any]]:
        extra.pop("loss", None)
        extra.pop("grad_norm", None)

        def step() -> Any:
            return inner.update(updates, state["inner_state"], params, **extra)

        def skip() -> Any:
            return jax.tree.map(jnp.zeros_like, updates), state["inner_state"]

        updates_, inner_state = jax.lax.cond(jnp.array(True), step, skip)
        return updates_, {"inner_state": inner_state, "is_skipped": jnp.array(False)}

    return optax.GradientTransformationExtraArgs(init, update)


def tunix_learning_rate(optimizer: nnx.Optimizer) -> Any:
    """`PeftTrainer._try_get_learning_rate` of `sft/peft_trainer.py` (Tunix 0.1.7)."""
    try:
        return optimizer.opt_state.hyperparams["learning_rate"].value
    except AttributeError:
        for part in optimizer.opt_state:
            if isinstance(part, optax.EmptyState):
                break
            if hasattr(part, "hyperparams"):
                return part.hyperparams["learning_rate"].value
        return None


def brax_gradient_update(
    loss: Callable[..., Any], optimizer: optax.GradientTransformation
) -> Callable[..., tuple[Any, Any, Any]]:
    """`gradient_update_fn` of `training/gradients.py` (brax 0.14)."""

    def step(params: Any, *args: Any, optimizer_state: Any) -> tuple[Any, Any, Any]:
        value, grads = jax.value_and_grad(loss)(params, *args)
        updates, optimizer_state = optimizer.update(grads, optimizer_state)
        return value, optax.apply_updates(params, updates), optimizer_state

    return step


def maxtext_checkpoint(optimizer: nnx.Optimizer) -> list[Any]:
    """`to_linen_checkpoint_dict` of `common/train_state_nnx.py`: a list, None for no arrays."""
    found = nnx.to_pure_dict(nnx.state(optimizer))["opt_state"]
    chain: list[Any] = [None] * (max(int(place) for place in found) + 1)
    for place, one in found.items():
        chain[int(place)] = {
            name: {"params": part} if name in ("mu", "nu") else part for name, part in one.items()
        }
    return chain
