"""Links to pages of jax, optax, Flax and NumPy: a build asks no server for an index of names."""

from __future__ import annotations

from typing import Any

from docutils import nodes

__all__ = ["find_address", "resolve"]

_FLAX = "https://flax.readthedocs.io/en/latest/api_reference/flax.nnx/"
_NUMPY = "https://numpy.org/doc/stable/reference/generated/"
_JAX = "https://docs.jax.dev/en/latest/"
_OPTAX = "https://optax.readthedocs.io/en/latest/api/"
_OPTAX_PAGES = {
    "combining_optimizers": ("chain", "named_chain", "partition"),
    "optimizer_schedules": ("Schedule", "contrib.reduce_on_plateau", "inject_hyperparams"),
    "optimizer_wrappers": (
        "MultiSteps",
        "apply_if_finite",
        "lookahead",
        "masked",
        "skip_large_updates",
    ),
    "optimizers": ("adafactor", "adam", "novograd", "sgd"),
    "transformations": (
        "GradientTransformation",
        "GradientTransformationExtraArgs",
        "adaptive_grad_clip",
        "clip_by_global_norm",
        "scale_by_adam",
    ),
    "utilities": ("tree.get", "tree.map_params"),
}
_PAGE_OF = {f"optax.{name}": page for page, some in _OPTAX_PAGES.items() for name in some}
_FLAX_PAGES = {
    "nnx.Optimizer": "training/optimizer",
    "nnx.Param": "variables",
    "nnx.scan": "transforms",
}
# Modules of jax have pages of another form.
_JAX_MODULES = {
    "jax.export": f"{_JAX}jax.export.html",
    "jax.lax": f"{_JAX}jax.lax.html",
    "jax.numpy": f"{_JAX}jax.numpy.html",
    "jax.random": f"{_JAX}jax.random.html",
}


def find_address(name: str) -> str | None:
    """Return the page of a name that docstrings use; None for any other."""
    if name in _JAX_MODULES:
        return _JAX_MODULES[name]
    if name.startswith("jax."):
        return f"{_JAX}_autosummary/{name}.html"
    if name in _PAGE_OF:
        return f"{_OPTAX}{_PAGE_OF[name]}.html#{name}"
    if name in _FLAX_PAGES:
        return f"{_FLAX}{_FLAX_PAGES[name]}.html"
    return f"{_NUMPY}{name}.html" if name.startswith("numpy.") else None


def resolve(app: Any, env: Any, node: Any, content: Any) -> nodes.reference | None:
    """Make the link of a reference for which the site has no page."""
    address = find_address(node.get("reftarget", ""))
    if node.get("refdomain") != "py" or address is None:
        return None
    return nodes.reference("", "", content, internal=False, refuri=address)
