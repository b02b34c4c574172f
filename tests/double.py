"""Double precision, by the name that the JAX at hand has for it."""

from __future__ import annotations

from typing import Any

import jax
import jax.experimental

__all__ = ["enable_x64"]

# jax 0.8.2 made the name public, and deprecated the other one.
enable_x64: Any = jax.enable_x64 if hasattr(jax, "enable_x64") else jax.experimental.enable_x64
