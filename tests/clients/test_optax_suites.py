"""optax's own tests of its optimizers, which its wheel ships, over every optimizer of clipax.

The methods of `AliasTest` and of `ContribTest` are called with clipax's factories in the place of
optax's; what they assert is optax's word.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import jax.numpy as jnp
import pytest
from optax._src import alias_test
from optax.contrib import _common_test

import clipax
from clipax.catalogue import ENTRIES

OPTIMIZERS = tuple(name for name, entry in ENTRIES.items() if entry.kind == "optimizer")
EACH = pytest.mark.parametrize("name", OPTIMIZERS)
