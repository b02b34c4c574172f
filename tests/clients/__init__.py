"""Frameworks that train with clipax's clips in the place of optax's."""
