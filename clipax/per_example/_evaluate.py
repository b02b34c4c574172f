"""One call of a clipped gradient: checks, the loop over examples, results."""

from __future__ import annotations

import functools
import numbers
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from clipax import _validate
from clipax._typing import Array, Params, Scalar, ScalarOrSchedule
from clipax.measure import Mesh, accumulation_dtype, name_leaves, narrow
from clipax.per_example._explicit import with_auto_axes
from clipax.per_example._options import Options
from clipax.per_example._release import ExampleStats, add_noise, summarize
from clipax.per_example._responses import respond
from clipax.per_example._scan import Microbatches, add_up

__all__ = ["evaluate"]


def evaluate(
    options: Options,
    params: Params,
    batch: Any,
    threshold: ScalarOrSchedule,
    mask: Any,
    key: Array | None,
) -> tuple[tuple[Array, ExampleStats], Any]:
    """Compute value, statistics and gradient of a batch.

    Raises:
      TypeError: `fun` returns anything else than described, or the key is no key.
      ValueError: Batch and mask do not match, a key is missing or not needed, or the mesh axes are
        not named.
    """
    size = _check_batch(batch, mask)
    _check_key(key, options.noise_multiplier)
    schedule = threshold if callable(threshold) else None
    number = None if callable(threshold) else threshold
    if number is not None and not isinstance(number, jax.Array):
        number = _validate.to_float(number, float)
    arrays = jax.tree.map(jnp.asarray, (params, batch, number, mask, key))
    evaluated = functools.partial(_evaluate, options, size, schedule)
    return with_auto_axes(evaluated, *arrays[:2], size, *arrays[2:])


def _evaluate(
    options: Options,
    size: int,
    schedule: optax.Schedule | None,
    params: Params,
    batch: Any,
    threshold: Array | None,
    mask: Array | None,
    key: Array | None,
) -> tuple[tuple[Array, ExampleStats], Any]:
    """Compute value, statistics and gradient of a batch on checked arguments."""
    leaves, structure = name_leaves(params, options.scope, check_patterns=True)
    dtype = accumulation_dtype([leaf.value.dtype for leaf in leaves])
    mesh = Mesh.of_batch((batch, mask), params, options.axis_name)
    if schedule is not None:
        threshold = jax.vmap(schedule)(mesh.place() * size + jnp.arange(size))
    limits = jnp.asarray(threshold, dtype)
    # A traced threshold is not checked: NaN, zero and negative numbers let nothing through.
    limits = jnp.where(limits > 0, limits, 0)
    decide = functools.partial(respond, options.response, options.eps)
    cut = Microbatches.of(batch, mask, limits, size, options.microbatch_size)

    fun = functools.partial(_loss_and_aux, options.fun, options.has_aux)
    sums = add_up(fun, params, cut, scope=options.scope, decide=decide, mesh=mesh)
    real = jnp.ones(size, bool) if mask is None else jnp.asarray(mask, bool)
    stats = summarize(
        sums.norms, sums.finite, real, functools.partial(decide, limits), mesh, sums.aux
    )
    total, value, number = mesh.psum((sums.leaves, sums.value, jnp.sum(real)))
    if options.noise_multiplier is not None and key is not None:
        total = add_noise(total, leaves, key, options.noise_multiplier, limits)
    if options.reduction == "mean":
        share = 1 / jnp.maximum(number, 1).astype(dtype)
        total, value = (
            [gradient * share.astype(gradient.real.dtype) for gradient in total],
            value * share,
        )
    grads = [
        narrow(gradient, leaf.value.dtype) for gradient, leaf in zip(total, leaves, strict=True)
    ]
    return (value, stats), jax.tree.unflatten(structure, grads)


def _loss_and_aux(
    fun: Callable[..., Any], has_aux: bool, params: Params, *example: Any
) -> tuple[Array, Any]:
    """Evaluate `fun` on one example and check the result; JAX's errors do not name examples."""
    result = fun(params, *example)
    if has_aux and not (isinstance(result, tuple) and len(result) == 2):
        raise TypeError(
            f"`fun` must return a pair of its loss and anything else with `has_aux`, got "
            f"{_describe_types(result)}."
        )
    loss, aux = result if has_aux else (result, None)
    scalar = _is_number(loss) and jnp.shape(loss) == ()
    if not (scalar and jnp.issubdtype(jnp.result_type(loss), jnp.floating)):
        raise TypeError(
            f"`fun` must return one floating-point number for one example (or a pair, with "
            f"`has_aux`), got {_describe_types(loss)}."
        )
    if others := [leaf for leaf in jax.tree.leaves(aux) if not _is_number(leaf)]:
        raise TypeError(f"`fun` must return arrays beside its loss, got {others[0]!r}.")
    return loss, aux


def _is_number(value: Any) -> bool:
    return isinstance(value, jax.Array | np.ndarray | np.generic | numbers.Number)


def _describe_types(value: Any) -> str:
    """Write a tree with the types of traced arrays in their place."""

    def kind(leaf: Any) -> Any:
        return str(jax.typeof(leaf)) if isinstance(leaf, jax.Array) else leaf

    return repr(jax.tree.map(kind, value)).replace("'", "")


def _check_key(key: Any, noise_multiplier: Scalar | None) -> None:
    if (key is None) != (noise_multiplier is None):
        given = "none" if key is None else "one"
        raise ValueError(
            f"`key` must be given if and only if there is a `noise_multiplier`, got {given} with "
            f"{noise_multiplier!r}."
        )
    if key is None:
        return
    typed = isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    raw = getattr(key, "dtype", None) == np.uint32 and jnp.ndim(key) == 1
    if not raw and not (typed and jnp.ndim(key) == 0):
        given = str(jax.typeof(key)) if isinstance(key, jax.Array) else repr(key)
        raise TypeError(f"`key` must be one key of `jax.random`, got {given}.")


def _check_batch(batch: Any, mask: Any) -> int:
    """Check the first axes of all arrays of the batch, and return the number of examples."""
    shapes = [jnp.shape(leaf) for leaf in jax.tree.leaves(batch)]
    if not shapes or () in shapes:
        raise ValueError(
            f"`batch` must hold arrays with a first axis for the examples, got shapes {shapes}."
        )
    sizes = {shape[0] for shape in shapes}
    if len(sizes) > 1:
        raise ValueError(f"`batch` must have one number of examples, got {sorted(sizes)}.")
    (size,) = sizes
    if size == 0:
        raise ValueError("`batch` must hold at least one example, got none.")
    if mask is not None and jnp.shape(mask) != (size,):
        raise ValueError(
            f"`mask` must be a vector with one entry for each of {size} examples, got an array of "
            f"shape {jnp.shape(mask)}."
        )
    return size
