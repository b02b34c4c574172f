"""Runs a transformation over lanes of gradients: compiled, all at once, or step by step."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

__all__ = ["StepByStep", "Trace", "run"]

Tree = Any

_FIELDS = {"latest", "counts"}
"""Names of what a transformation of clipax records without remembering it."""
_COUNT = re.compile(r"count|finite|skip|(^|_)steps?$")
"""Names of state fields that count steps or flag them as finite or skipped."""


class StepByStep(NamedTuple):
    """A method that runs step by step and need not be JAX: three Python functions.

    `inject_faults` takes it in place of a transformation. Use it for what cannot be compiled, for
    other frameworks, or for a step that is compiled already.

    Attributes:
      init: From the parameters to a state; called anew for each run.
      update: From `(gradient, state, params)`, trees of NumPy arrays but for the state, to the
        update, a tree of arrays like the gradient, and the state.
      arrays: From a state to the arrays in it, a tree; default: the state is one. They are copied
        at each step, so that a state may change in place.

    Example:
      >>> import numpy as np, clipax
      >>> class Cautious:
      ...     largest = np.full((), 1e-3)
      >>> def update(gradient, state, params):
      ...     norm = np.sqrt(sum(np.sum(leaf**2) for leaf in gradient.values()))
      ...     state.largest = np.maximum(state.largest, norm)
      ...     return {name: leaf / state.largest for name, leaf in gradient.items()}, state
      >>> method = clipax.testing.StepByStep(
      ...     lambda params: Cautious(), update, lambda state: state.largest
      ... )
      >>> report = clipax.testing.inject_faults(method, {"w": np.ones(3)}, faults=["zero", "spike"])
      >>> print(report.row("zero", "late").verdict, report.row("spike", "late").verdict)
      recovers dies
    """

    init: Callable[[Tree], Any]
    update: Callable[[Tree, Any, Tree], tuple[Tree, Any]]
    arrays: Callable[[Any], Tree] = lambda state: state


class Trace(NamedTuple):
    """The updates and states of a lane.

    Attributes:
      updates: All entries of each step's update, in float64: an array of steps by entries.
      finite: Whether the state is finite after each step.
      memory: The state's arrays, counts and clipax's telemetry apart, each as steps by entries; the
        first row is the state before the first step.
    """

    updates: np.ndarray
    finite: np.ndarray
    memory: list[np.ndarray]

    def kept(self, steps: slice, undisturbed: Trace) -> bool:
        """Check that each number in the state is kept in these steps, or is as undisturbed.

        The second is for methods that leave out only the blocks that are not finite.
        """
        theirs = [one[1:] for one in undisturbed.memory]
        if [one.shape[1:] for one in theirs] != [one.shape[1:] for one in self.memory]:
            # The fault adds a leaf, and with it rows to the state: nothing to compare with.
            theirs = [one[:-1] for one in self.memory]
        return all(
            ((now[1:] == now[:-1])[steps] | (now[1:][steps] == other[steps])).all()
            for now, other in zip(self.memory, theirs, strict=True)
        )


def run(transformation: Any, params: Tree, sequences: Sequence[Tree]) -> list[Trace]:
    """Run sequences of gradients, trees of NumPy arrays with a leading axis of steps.

    All start from the same parameters, which do not move, so that runs compare step by step.
    """
    with np.errstate(over="ignore", under="ignore"):
        lanes = [
            jax.tree.map(lambda leaf, param: leaf.astype(param.dtype), gradients, params)
            for gradients in sequences
        ]
    if isinstance(transformation, StepByStep):
        return [_run_stepwise(transformation, params, lane) for lane in lanes]
    return _run_compiled(transformation, params, lanes)


def _run_compiled(transformation: Any, params: Tree, lanes: Sequence[Tree]) -> list[Trace]:
    longest = max(len(jax.tree.leaves(lane)[0]) for lane in lanes)

    def pad(leaf: np.ndarray) -> np.ndarray:
        # Shorter lanes repeat their last gradient; these steps are not read.
        return np.concatenate([leaf, np.repeat(leaf[-1:], longest - len(leaf), axis=0)])

    stacked = _stack([jax.tree.map(pad, lane) for lane in lanes])
    scan = _compile_scan()
    outputs = scan(transformation.init, transformation.update, params, stacked)
    start, states, updates = jax.device_get(outputs)
    return [
        _make_trace(*jax.tree.map(lambda leaf, lane=lane: leaf[lane], (start, states, updates)))
        for lane in range(len(lanes))
    ]


@functools.cache
def _compile_scan() -> Any:
    """Make the compiled scan; a transformation is compiled once a process."""
    # It takes longer to compile than to run: without optimisations half as long.
    options = {"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else None
    return jax.jit(_scan, static_argnums=(0, 1), compiler_options=options)


def _scan(init: Any, update: Any, params: Tree, gradients: Tree) -> tuple[Tree, Tree, Tree]:
    """Compute the initial state, the states and the updates of every lane."""

    def step(state: Any, gradient: Tree) -> tuple[Any, tuple[Any, Tree]]:
        updates, new = update(gradient, state, params)
        state = jax.tree.map(_cast_back, new, state)
        return state, (_expose_keys(state), updates)

    def lane(gradients: Tree) -> tuple[Tree, Tree, Tree]:
        start = jax.tree.map(jnp.asarray, init(params))
        _, (states, updates) = lax.scan(step, start, gradients)
        return _expose_keys(start), states, updates

    return jax.vmap(lane)(gradients)


def _cast_back(now: Any, old: Any) -> Any:
    """Cast a part of the state to its initial type, as a scan demands."""
    now = jnp.asarray(now)
    return now if now.dtype == old.dtype else now.astype(old.dtype)


def _expose_keys(state: Any) -> Any:
    """Convert random keys in the state to integers."""

    def read(leaf: Any) -> Any:
        is_key = jnp.issubdtype(jnp.result_type(leaf), jax.dtypes.prng_key)
        return jax.random.key_data(leaf) if is_key else leaf

    return jax.tree.map(read, state)


def _run_stepwise(method: StepByStep, params: Tree, gradients: Tree) -> Trace:
    state = method.init(params)
    start = _copy(method.arrays(state))
    states, updates = [], []
    for step in range(len(jax.tree.leaves(gradients)[0])):
        gradient = jax.tree.map(lambda leaf, at=step: np.array(leaf[at]), gradients)
        update, state = method.update(gradient, state, params)
        states.append(_copy(method.arrays(state)))
        updates.append(_copy(update))
    return _make_trace(start, _stack(states), _stack(updates))


def _copy(tree: Tree) -> Tree:
    return jax.tree.map(np.array, _expose_keys(tree))


def _stack(trees: Sequence[Tree]) -> Tree:
    return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)


def _make_trace(start: Tree, states: Tree, updates: Tree) -> Trace:
    """Read states and updates, arrays with a leading axis of steps."""
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(updates)]
    steps = len(leaves[0])
    entries = [leaf.reshape(steps, -1) for leaf in leaves]
    finite, memory = np.ones(steps, bool), []
    pairs = jax.tree_util.tree_leaves_with_path(states)
    telemetry = _find_telemetry([path for path, _ in pairs])
    for (path, after), before in zip(pairs, jax.tree.leaves(start), strict=True):
        after, before = np.asarray(after).reshape(steps, -1), np.ravel(before)
        if np.issubdtype(after.dtype, np.inexact) or after.dtype.kind == "V":
            wide = _widen(after)
            # An entry that is infinite at the start, such as a running minimum, may stay so.
            bad = np.isnan(wide) | (np.isinf(wide) & np.isfinite(_widen(before)))
            finite &= ~bad.any(axis=1)
        if not (path in telemetry or _COUNT.search(_read_last_name(path))):
            memory.append(np.concatenate([before[None], after]))
    return Trace(np.concatenate([_widen(entry) for entry in entries], axis=1), finite, memory)


def _widen(array: np.ndarray) -> np.ndarray:
    """Convert to double precision, complex numbers to pairs of real ones."""
    if np.iscomplexobj(array):
        array = np.concatenate([array.real, array.imag], axis=-1)
    return array.astype(np.float64)


def _find_telemetry(paths: Sequence[Any]) -> set[Any]:
    """Find the paths of telemetry, which is reported and never read back."""
    names: dict[Any, set[str]] = {}
    for path in paths:
        names.setdefault(path[:-1], set()).add(_read_last_name(path))
    return {
        path
        for path in paths
        if names[path[:-1]].issuperset(_FIELDS) and _read_last_name(path) in _FIELDS
    }


def _read_last_name(path: Any) -> str:
    """Read the innermost name on the way to a leaf, empty where there is none."""
    names = [key.name if hasattr(key, "name") else getattr(key, "key", None) for key in path]
    return next((name for name in reversed(names) if isinstance(name, str)), "")
