"""EasyDeL 0.3: `TrainingArguments.get_optimizer_and_scheduler`, and how its state is stepped."""

from __future__ import annotations

from typing import Any

import optax

__all__ = ["TrainingArguments", "apply_gradients"]


class TrainingArguments:
    def get_optimizer_and_scheduler(self, steps: int | None = None) -> tuple[Any, optax.Schedule]:
        schedule = optax.constant_schedule(1e-3)
        return optax.chain(optax.adamw(schedule)), schedule


def apply_gradients(tx: Any, params: Any, opt_state: Any, grads: Any) -> tuple[Any, Any]:
    """As `EasyDeLState.apply_gradients`: by keywords."""
    updates, opt_state = tx.update(updates=grads, state=opt_state, params=params)
    return optax.apply_updates(params, updates), opt_state
