"""The results of a call, from sums over examples: noise and statistics."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from clipax._export import exportable
from clipax._typing import Array, Norms, Scalar
from clipax.measure import Leaf, Mesh, combine_norms
from clipax.norms import Decision

__all__ = ["ExampleStats", "add_noise", "count_blocks", "summarize"]


@exportable
class ExampleStats(NamedTuple):
    """Statistics of the examples of one call. None of it is private.

    Attributes:
      norms: Norm of each example's gradient over all blocks that the scope measures, a vector in
        the order of the batch, for the extra argument `example_norms`. Infinite for an example that
        is not finite, -1 for one that the mask leaves out. With `axis_name` those of all devices'
        examples, device by device, the same on every device.
      block_norms: The norms of each block: from the scope's labels to arrays whose first axis is
        the batch's; of this device's examples only, as is `aux`.
      clip_fraction: Share of the finite examples' blocks whose norm exceeds the threshold.
      nonfinite_count: Number of examples with a NaN or an infinity; they contributed zero.
      aux: Auxiliary output of `fun`, with a first axis for the examples; None without
        `has_aux`.
    """

    norms: Array
    block_norms: Norms
    clip_fraction: Array
    nonfinite_count: Array
    aux: Any = None


def summarize(
    norms: Norms,
    finite: Array,
    real: Array,
    decide: Callable[[Array], Decision],
    mesh: Mesh,
    aux: Any,
) -> ExampleStats:
    """Compute `ExampleStats`, with counts over all devices.

    Args:
      norms: Norms of each example's blocks, by label.
      finite: True for finite examples.
      real: True for examples that the mask lets in.
      decide: From norms to factors and the threshold.
      mesh: The devices that hold the other examples.
      aux: Auxiliary output of `fun`.
    """
    good = finite & real
    clipped, blocks = jnp.zeros((), jnp.int32), 0
    shown = {}
    for label, norm in norms.items():
        column = jnp.expand_dims(good, tuple(range(1, norm.ndim)))
        safe = jnp.where(jnp.isfinite(norm), norm, 0)
        above = (norm > decide(safe).threshold) & column
        clipped += jnp.sum(above, dtype=jnp.int32)
        blocks += math.prod(norm.shape[1:])
        shown[label] = _mark(
            norm, jnp.isfinite(norm), jnp.expand_dims(real, tuple(range(1, norm.ndim)))
        )
    whole = (
        jax.vmap(lambda example: combine_norms(list(example.values())))(norms)
        if norms
        else 0.0 * finite
    )
    counts = mesh.psum((clipped, jnp.sum(good), jnp.sum(real & ~finite)))
    clipped, entered, nonfinite = (count.astype(jnp.int32) for count in counts)
    fraction = clipped / jnp.maximum(entered * blocks, 1).astype(jnp.float32)
    all_norms = mesh.gather(_mark(whole, finite, real))
    return ExampleStats(all_norms, shown, fraction, nonfinite, aux)


def _mark(norms: Array, finite: Array, real: Array) -> Array:
    """Replace norms by infinity where an example is not finite, by -1 where it is masked."""
    return jnp.where(real, jnp.where(finite, norms, jnp.inf), -1)


def add_noise(
    sums: Sequence[Array], leaves: Sequence[Leaf], key: Array, multiplier: Scalar, threshold: Array
) -> list[Array]:
    """Add Gaussian noise to sums, in units of the largest contribution of one example.

    Args:
      sums: Sums of clipped gradients, in float32 or better.
      leaves: The leaves that they belong to, with their blocks.
      key: A key of `jax.random`.
      multiplier: Standard deviation in units of the largest norm of one example's contribution.
      threshold: The largest norm of one block of it.

    Raises:
      ValueError: A leaf is excluded from clipping, so that nothing bounds the contribution.
    """
    # B blocks, each clipped at c, have a joint norm of at most c sqrt(B).
    sensitivity = threshold * math.sqrt(count_blocks(leaves))
    noisy = []
    for value, leaf_key in zip(sums, jax.random.split(key, max(len(sums), 1)), strict=False):
        drawn = jax.random.normal(leaf_key, value.shape, value.dtype)
        if jnp.iscomplexobj(value):
            drawn = drawn * math.sqrt(2)  # both parts with the full deviation
        deviation = jnp.asarray(multiplier * sensitivity, value.real.dtype)
        noisy.append(value + drawn * deviation)
    return noisy


def count_blocks(leaves: Sequence[Leaf]) -> int:
    """Count the norms that one example's gradient has.

    Raises:
      ValueError: A leaf is excluded from clipping, so that nothing bounds the contribution.
    """
    blocks: dict[str, int] = {}
    for leaf in leaves:
        if leaf.block.excluded:
            raise ValueError(
                f"`scope` must leave no parameter out where noise is added, it excludes "
                f"{leaf.path!r}: an example's contribution to it is not bounded."
            )
        blocks[leaf.block.label] = math.prod(leaf.value.shape[axis] for axis in leaf.block.keep)
    return sum(blocks.values())
