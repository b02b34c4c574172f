"""Momentum that is scaled by a function of its own norm, alone or mixed with the gradient."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from clipax import _validate, norms, scopes
from clipax._typing import Array, AxisName, NonFinite, Norms, Params, Scalar, Updates
from clipax.engine._blocks import BlockStates, Group, state_of
from clipax.engine._decide import Deciders, Measured, decide
from clipax.engine._entries import Plan, Step, averaged, wide_zeros_like
from clipax.engine._step import (
    ScaleByNormState,
    initial,
    measured_in,
    own_params,
    recorded,
)
from clipax.measure import (
    Derived,
    Leaf,
    accumulation_dtype,
    block_sizes,
    by_path,
    named_leaves,
    products,
    row_of,
    wide_dtype,
)
from clipax.measure._sums import root
from clipax.norms import Decision, NormRule
from clipax.scopes import Block

__all__ = ["scale_by_momentum_norm"]

# The momentum's row has another name than its memory, so that `optax.tree.get` finds that alone.
_GRADIENT, _MOMENTUM = "gradient", "averaged"
# What the new momentum's square is worked out from, beside the gradient's.
_OLD, _INNER = "old", "inner"
# How small a part of its terms it may be: a rounding error in them weighs 8 times as much in it.
_LEAST = 1 / 8


class _Sources(NamedTuple):
    """What the gradients with their weight decay are computed from."""

    gradients: Sequence[Array]
    params: Sequence[Array] | None
    weight: Array | None


def scale_by_momentum_norm(
    response: NormRule,
    *,
    decay: Scalar,
    before: NormRule | None = None,
    nu: Scalar | None = None,
    weight_decay: Scalar | None = None,
    nonfinite: NonFinite = "zero",
    axis_name: AxisName = None,
) -> optax.GradientTransformationExtraArgs:
    """`f(|m|) m`, or with `nu` the mixture `nu f(|m|) m + (1 - nu) f(|g|) g`.

    The telemetry has the rows `gradient` and `averaged` (the momentum). Inside `shard_map` both are
    measured together, in one `psum`; elsewhere one after the other, which XLA for CPU turns into
    the least traffic (together it reads the gradient once more, and writes out two float32 copies
    of a bfloat16 tree). The factor of `before` is not known then: the square of the new momentum
    `b m + c g` is made of `|m|^2`, `<m, g>` and `|g|^2`. Only where these nearly cancel, or
    overflow, is it measured by itself, with a `psum` of its own.

    Args:
      response: Decides on the factor of the momentum; in a mixture also on that of the gradient.
      decay: Decay rate of the momentum, in [0, 1), from zero and without bias correction.
      before: Decides on the factor of the gradient in front of the momentum. Not with `nu`.
      nu: Share of the momentum, in [0, 1]; None for the momentum alone.
      weight_decay: Adds this multiple of the parameters to the gradient, before all else.
      nonfinite: As everywhere.
      axis_name: As everywhere.
    """
    _validate.open_unit("decay", decay)
    if nu is not None:
        _validate.within("nu", nu, 0, 1)
    if weight_decay is not None:
        _validate.non_negative("weight_decay", weight_decay)
    _validate.one_of("nonfinite", nonfinite, ("zero", "propagate"))
    scope = scopes.resolve(scopes.GLOBAL)
    fill = 0.0 if nonfinite == "zero" else jnp.nan
    first = before or (norms.identity() if nu is None else response)
    parts = {_GRADIENT: first, _MOMENTUM: response}
    deciders = {label: Deciders.of(part) for label, part in parts.items()}
    shapes: dict[str, tuple[int, ...]] = dict.fromkeys(sorted(parts), ())
    needs_norms = any(part.needs_params for part in parts.values())

    def init(params: Params) -> ScaleByNormState:
        leaves, _ = named_leaves(params, scope)
        dtype = accumulation_dtype([leaf.value.dtype for leaf in leaves])
        remembered = {label: state_of(parts[label], (), dtype) for label in shapes}
        return ScaleByNormState(
            **initial(shapes, excluded=False, collapse=False, dtype=dtype),
            # Each by itself, as it has a rule of its own.
            before=BlockStates((), remembered),
            after=BlockStates((), dict.fromkeys(shapes, ())),
            total=(),
            memory={"momentum": jax.tree.map(wide_zeros_like, params)},
        )

    def update(
        updates: Updates, state: ScaleByNormState, params: Params | None = None, **extra: Any
    ) -> tuple[Updates, ScaleByNormState]:
        leaves, structure = named_leaves(updates, scope)
        needed = needs_norms or weight_decay is not None
        wanted = params if needed or axis_name is not None else None
        own = own_params(leaves, wanted, required=needed)
        dtype = state.grad_norm.dtype
        # Opaque, or XLA writes out whole arrays of a constant that two loops share.
        rate = lax.optimization_barrier(jnp.asarray(decay, dtype))
        rows = by_path(state.memory["momentum"])
        old = [row_of(rows, leaf.path) for leaf in leaves]
        decided: dict[str, Plan] = {}
        found: list[Group] = []
        decisions: list[Decision] = []
        entries = sum(block_sizes(leaves, axis_name=axis_name).values())

        def norm_of(label: str, values: Sequence[Array], derived: Derived | None = None) -> Array:
            known = {label: sums[label]} if label in sums else None
            blocks = _labelled(label, leaves, values)
            return measured_in(dtype, blocks, axis_name, own, known, derived).get(label, none)

        def settle(label: str, norm: Array) -> Plan:
            """Decides on one of the two."""
            nonlocal state
            if _GRADIENT in decided:
                # What there is no step for is recorded of both.
                norm = jnp.where(decided[_GRADIENT].finite, norm, jnp.nan)
            known_sizes = sizes if parts[label].needs_params else {}
            found.append(Group((label,), norm, None, unit=True))
            group = found[-1:]
            of_it = Measured({label: norm}, known_sizes, {label: entries})
            plans, made, fields = decide(deciders[label], group, of_it, state, extra)
            state = state._replace(**fields)
            decisions.extend(made)
            decided[label] = plans[label]
            return plans[label]

        none = jnp.zeros((), dtype)  # of a tree without leaves
        sizes: Norms = {}
        if needs_norms and own is not None:
            size = measured_in(dtype, _labelled(_GRADIENT, leaves, own), axis_name, None)
            sizes = dict.fromkeys(parts, size.get(_GRADIENT, none))
        weight = None if weight_decay is None else jnp.asarray(weight_decay, dtype)
        decaying = None if weight is None else own
        sources = _Sources([leaf.value for leaf in leaves], decaying, weight)
        gradients = _decayed(sources)
        sums: Norms = {}
        if axis_name is not None:
            pairs = zip(old, _widened(gradients, dtype), strict=True)
            if before is None:
                ahead = [m.astype(g.dtype) * rate + g * (1 - rate) for m, g in pairs]
                terms = [(_GRADIENT, gradients, gradients), (_MOMENTUM, ahead, ahead)]
            else:
                terms = [
                    (_GRADIENT, gradients, gradients),
                    (_OLD, old, old),
                    (_INNER, old, gradients),
                ]
            sums = _inner_products(leaves, terms, dtype, axis_name, own)
        length = norm_of(_GRADIENT, gradients, Derived(_decayed, sources))
        plan = settle(_GRADIENT, length)
        # Not a number only if the gradient's is. It tells XLA that the old average was read before
        # the new one takes its place; without, it copies the old one first.
        counts = plan.finite & ~jnp.isnan(sums.get(_MOMENTUM, plan.factor))
        step = Step(plan.factor, plan.divisor, counts, fill, state.count, None, None)
        # The barrier keeps XLA from writing out what measuring and scaling have in common.
        gradients = _widened(_decayed(jax.tree.map(lax.optimization_barrier, sources)), dtype)
        fed = plan.factor if before is not None else 1
        new = [
            averaged(gradient, average, decay, step, fed)
            for gradient, average in zip(gradients, old, strict=True)
        ]
        if _INNER in sums:
            square, certain = _square_of_sum(rate, sums, plan.factor * (1 - rate), length)
            known = root(jnp.maximum(square, 0)).astype(dtype)
            length = lax.cond(certain, lambda: known, lambda: norm_of(_MOMENTUM, new))
        else:
            length = norm_of(_MOMENTUM, new)
        other = settle(_MOMENTUM, length)
        share = 1 if nu is None else jnp.asarray(nu, dtype)
        finite = counts & other.finite
        scaled = []
        for leaf, gradient, average in zip(leaves, gradients, new, strict=True):
            # From what is stored, behind a barrier of its own for the same reason.
            value = lax.optimization_barrier(average).astype(gradient.dtype)
            value *= other.factor * share
            if nu is not None:
                value += gradient * (plan.factor * (1 - share))
            scaled.append(jnp.where(finite, value, fill).astype(leaf.value.dtype))
        rows |= {leaf.path: average for leaf, average in zip(leaves, new, strict=True)}
        structures = jax.tree.structure(state.memory["momentum"])
        memory = {"momentum": jax.tree.unflatten(structures, list(rows.values()))}
        state = state._replace(**recorded(state, found, decisions), memory=memory)
        return jax.tree.unflatten(structure, scaled), state

    return optax.GradientTransformationExtraArgs(init, update)


def _labelled(label: str, leaves: Sequence[Leaf], values: Sequence[Array]) -> list[Leaf]:
    """Values computed from the leaves, measured under one label."""
    pairs = zip(leaves, values, strict=True)
    return [Leaf(leaf.path, value, Block(label)) for leaf, value in pairs]


def _inner_products(
    leaves: Sequence[Leaf],
    terms: Sequence[tuple[str, Sequence[Array], Sequence[Array]]],
    dtype: Any,
    axis_name: AxisName,
    params: Sequence[Array] | None,
) -> Norms:
    """Inner products by label, each of two trees like the leaves, in one collective."""
    blocks = [block for label, values, _ in terms for block in _labelled(label, leaves, values)]
    others = [value for _, _, values in terms for value in values]
    wide = accumulation_dtype([dtype, *(value.dtype for value in others)])
    own = None if params is None else [*params] * len(terms)
    return products(blocks, others, wide, axis_name=axis_name, params=own)


def _square_of_sum(rate: Array, sums: Norms, share: Array, norm: Array) -> tuple[Array, Array]:
    """The square of `|rate m + share g|`, and whether it is certain.

    Args:
      rate: Coefficient of the old momentum.
      sums: Its square and its inner product with the gradient.
      share: Coefficient of the gradient.
      norm: The gradient's, whose square may overflow.
    """
    rate, share, norm = (one.astype(sums[_OLD].dtype) for one in (rate, share, norm))
    apart = jnp.square(rate) * sums[_OLD] + jnp.square(share * norm)
    square = apart + 2 * rate * share * sums[_INNER]
    return square, jnp.isfinite(square) & (square >= _LEAST * apart)


def _decayed(sources: _Sources) -> Sequence[Array]:
    """The gradients with their weight decay, then in the type in which to compute."""
    gradients, params, weight = sources
    if weight is None or params is None:
        return gradients
    wide = _widened(gradients, weight.dtype)
    return [g + p.astype(g.dtype) * weight for g, p in zip(wide, params, strict=True)]


def _widened(values: Sequence[Array], dtype: Any) -> list[Array]:
    """Values in the type in which to compute with numbers of the type `dtype`."""
    return [value.astype(wide_dtype(value.dtype, dtype)) for value in values]
