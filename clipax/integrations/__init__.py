"""Adapters for frameworks whose optimizers are not optax's; import the one that you need.

Nothing here imports a framework, and no other room imports these: `docs/frameworks.md` shows them.
"""
