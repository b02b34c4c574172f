"""One read, one pass, no copy: what each method's step moves and allocates."""

from __future__ import annotations

from collections import Counter
from typing import Any

import jax
import jax.numpy as jnp
import optax
import pytest

import clipax
from benchmarks.harness import hlo
from clipax import norms
from tests.counts.programs import DEFAULTS, SCRATCH, SLACK, TREES, Counts, compiled, counts
from tests.thorough import thorough

SGD, ADAM = optax.sgd(0.1), optax.adam(0.1)

LINKS = [
    norms.clip(1.0),
    norms.adagrad_norm(1.0),
    norms.clip(2.0, response="sqrt"),
    norms.normalize(1e-3),
]


def chain_of(length: int) -> Any:
    return optax.chain(clipax.scale_by_norm(norms.chain(*LINKS[:length])), SGD)


# Every method that is a function of the global norm, then SGD: 3 P, and 1 P to measure.
ONE_READ = {
    "clip": clipax.clip_by_global_norm(1.0),
    "smooth": clipax.clip_by_smooth_norm(1.0),
    "regularized": clipax.clip_by_regularized_norm(1.0, 0.1),
    "normalize": clipax.normalize_by_global_norm(1e-3),
    "leaf": clipax.clip_by_leaf_norm(1.0),
    "monitor": clipax.monitor_norms(),
    "clip, adagrad-norm": clipax.scale_by_norm(norms.clip(1.0), after=norms.adagrad_norm(1.0)),
    "delayed": clipax.scale_by_norm(norms.clip(1.0), after=norms.adagrad_norm(1.0, delay=3)),
}


def assert_moves(found: Counts, traffic: float) -> None:
    assert found.traffic == pytest.approx(traffic, abs=SLACK)
    assert found.temporaries < SCRATCH


# Decisions on one number take the same, however many leaves there are.
ON_TREES = [
    *((name, "leaf") for name in ONE_READ),
    *((name, "shallow") for name in ("clip", "leaf", "monitor", "clip, adagrad-norm")),
]


@pytest.mark.parametrize("dtype", thorough(["f32", "bf16"], but=["f32"]))
@pytest.mark.parametrize(("name", "tree"), ON_TREES)
def test_one_read_and_one_pass(name: str, tree: str, dtype: str) -> None:
    found = counts(optax.chain(ONE_READ[name], SGD), tree, dtype)
    assert_moves(found, 4)


@pytest.mark.parametrize("tree", TREES)
def test_adam_reads_the_gradient_once_more(tree: str) -> None:
    assert_moves(counts(ADAM, tree), 10)
    assert_moves(counts(optax.chain(clipax.clip_by_global_norm(1.0), ADAM), tree), 11)


# Of bfloat16 parameters the momentum takes 2 P, and is touched three times. That of optax is
# narrow, and stands still far from its limit.
@pytest.mark.thorough
@pytest.mark.parametrize(("dtype", "wide"), [("f32", 0), ("bf16", 3)])
def test_momentum_is_read_and_written_once(dtype: str, wide: int) -> None:
    assert_moves(counts(optax.sgd(0.1, momentum=0.9), "shallow", dtype), 6)
    assert_moves(counts(clipax.clip_adam_norm(0.1, 1.0), "shallow", dtype), 7 + wide)


# Here it is touched four times.
@pytest.mark.thorough
@pytest.mark.parametrize(("dtype", "wide"), [("f32", 0), ("bf16", 4)])
@pytest.mark.parametrize("tree", thorough(TREES, but=["leaf"]))
def test_momentum_that_is_measured_is_read_once_more(tree: str, dtype: str, wide: int) -> None:
    # Without the mixture: the gradient, the momentum's update, its norm, the step along it.
    assert_moves(counts(clipax.momentum_clip_sgd(0.1, 0.1), tree, dtype), 8 + wide)
    assert_moves(counts(clipax.clip_normalized_momentum(0.1, 1.0), tree, dtype), 8 + wide)
    # With it, the gradient once more.
    assert_moves(counts(clipax.mixed_clip_sgd(0.1, 0.1), tree, dtype), 9 + wide)


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("tree", "clip"),
    thorough(
        [
            ("leaf", "global"),
            ("leaf", "coordinate"),
            ("shallow", "leaf"),
            ("shallow", "coordinate"),
        ],
        but=[("leaf", "coordinate"), ("shallow", "leaf")],
    ),
)
def test_scales_of_entries_cost_what_those_of_adam_do(tree: str, clip: str) -> None:
    assert_moves(counts(clipax.clip_adam(0.1, 1.0, clip=clip), tree), 11)
    decayed = clipax.clip_adam(0.1, 1.0, clip=clip, weight_decay=0.1)
    assert_moves(counts(decayed, tree), 11)


def test_a_delay_keeps_numbers_not_gradients() -> None:
    params = {"w": jnp.ones((8, 8))}

    def sizes(optimizer: Any) -> Counter[int]:
        leaves = jax.tree.leaves(jax.eval_shape(optimizer.init, params))
        return Counter(leaf.size for leaf in leaves if leaf.size >= 64)

    for make in (clipax.clip_adagrad_norm, clipax.clip_adam_norm):
        assert sizes(make(0.1, 1.0, delay=1)) == sizes(make(0.1, 1.0))
        assert sizes(make(0.1, 1.0, delay=5)) == sizes(make(0.1, 1.0))
    for make in (clipax.clip_adagrad, clipax.clip_adam):
        assert sizes(make(0.1, 1.0, delay=1)) == sizes(make(0.1, 1.0))
    # Scales of entries are as many as the entries, for every step of the delay.
    assert sizes(clipax.clip_adagrad(0.1, 1.0, delay=5)) == {6 * 64: 1}


@pytest.mark.parametrize("response", ["hard", "sqrt", "rational", "tanh", "huber"])
def test_clipping_by_value_measures_nothing(response: str) -> None:
    clip = clipax.clip_by_value(1e-3, response=response)
    found = counts(optax.chain(clip, SGD), "shallow")
    assert_moves(found, 3)
    assert found.reductions == 0


@pytest.mark.thorough
@pytest.mark.parametrize("dtype", ["f32", "bf16"])
def test_update_clipping_reads_gradient_and_scales_once_more(dtype: str) -> None:
    # Of a bfloat16 tree the averages, in float32, count twice.
    assert_moves(counts(clipax.stable_adamw(0.1), "leaf", dtype), 12 if dtype == "f32" else 19)


@pytest.mark.thorough
@pytest.mark.parametrize("tree", thorough(TREES, but=["leaf"]))
def test_chains_of_any_length_cost_the_same(tree: str) -> None:
    one = counts(chain_of(1), tree)
    assert one.reductions > 0
    for length in (2, 4):
        other = counts(chain_of(length), tree)
        assert other.reductions == one.reductions
        assert other.conditionals == one.conditionals == 1
        assert other.traffic == pytest.approx(one.traffic, abs=1e-3)  # scalars
        assert other.temporaries == pytest.approx(one.temporaries, abs=1e-3)


@pytest.mark.thorough
@pytest.mark.parametrize("tree", thorough(TREES, but=["leaf"]))
def test_skipped_steps_copy_no_state(tree: str) -> None:
    """Adam's branch returns its updates, 1 P; its momenta are changed in place."""
    skip, theirs = counts(clipax.skip_nonfinite(ADAM), tree), optax.apply_if_finite(ADAM, 5)
    assert skip.conditionals == 1
    assert skip.temporaries < 1 + SCRATCH
    assert skip.traffic < counts(theirs, tree).traffic + SLACK


def test_skipped_spikes_cost_what_other_skipped_steps_do() -> None:
    """One read and a few numbers; the second conditional is that of a norm that overflows."""
    other, found = (
        counts(clipax.skip_nonfinite(ADAM), "leaf"),
        counts(clipax.skip_spikes(ADAM), "leaf"),
    )
    assert found.conditionals == 2
    assert found.temporaries < 1 + SCRATCH
    assert found.traffic == pytest.approx(other.traffic, abs=SLACK)


# The check 1, the change 3 and its norm 1, the estimate 3, the step 3. Of bfloat16 parameters the
# change and the estimate take 2 P each. An average of the gradients is read and written before it,
# and read where the change is computed again; a buffer is made of the sum that is clipped alone.
@pytest.mark.thorough
@pytest.mark.parametrize(
    ("dtype", "change", "options", "traffic"),
    [
        ("f32", 1, {}, 11),
        ("bf16", 2, {}, 17),
        ("f32", 1, {"b1": 0.9, "step": 0.5}, 14),
        ("bf16", 2, {"b1": 0.9, "step": 0.5}, 24),
        ("f32", 1, {"memory": "buffer"}, 10),
        ("bf16", 2, {"memory": "buffer"}, 16),
    ],
)
def test_error_feedback_writes_the_change_and_nothing_else(
    dtype: str, change: float, options: dict[str, Any], traffic: float
) -> None:
    """XLA for CPU sums up the squares of what is in memory only."""
    method = clipax.with_error_feedback(clipax.clip_by_global_norm(1.0), **options)
    found = counts(optax.chain(method, SGD), "leaf", dtype)
    assert found.traffic == pytest.approx(traffic, abs=SLACK)
    assert found.temporaries < change + SCRATCH


def test_two_transformations_cost_more_than_their_chain() -> None:
    """The chain saves a read, so that the test above is about something."""
    links = [clipax.scale_by_norm(link) for link in LINKS[:2]]
    separate, fused = counts(optax.chain(*links, SGD), "leaf"), counts(chain_of(2), "leaf")
    assert separate.traffic > fused.traffic + 2
    assert separate.temporaries > fused.temporaries + 0.9
    assert separate.reductions == 2 * fused.reductions


def test_reductions_of_a_tree_grow_with_its_leaves_alone() -> None:
    """One for each leaf, and one more over their sums."""
    params = {f"leaf_{number}": jnp.ones(4096) for number in range(7)}
    for transformation in (clipax.clip_by_global_norm(1.0), ONE_READ["clip, adagrad-norm"]):
        program = jax.jit(transformation.update).lower(params, transformation.init(params))
        assert hlo.count(program.compile(compiler_options=DEFAULTS), large=4096).reductions == 7
        assert hlo.count(program.compile(compiler_options=DEFAULTS)).reductions == 8


def test_sums_over_leaves_are_no_chain_of_additions() -> None:
    """Such a chain, in one fusion, takes XLA quadratic time to compile."""
    step = compiled(optax.chain(clipax.clip_by_global_norm(1.0), SGD), "transformer", "f32")
    theirs = compiled(optax.chain(optax.clip_by_global_norm(1.0), SGD), "transformer", "f32")
    assert _most_additions(theirs) > 100
    assert _most_additions(step) < 10


def _most_additions(step: Any) -> int:
    computations, _ = hlo.parse(step.as_text())
    opcodes = [Counter(one.opcode for one in inside.values()) for inside in computations.values()]
    return max(counter["add"] for counter in opcodes)


@pytest.mark.thorough
@pytest.mark.parametrize("dtype", thorough(["f32", "bf16"], but=["f32"]))
def test_units_and_their_parameters_are_read_once_each(dtype: str) -> None:
    found = counts(optax.chain(clipax.clip_by_param_norm(0.01), optax.sgd(0.1)), "shallow", dtype)
    # The norms of all units, and what is decided on them, are no small part of so small a tree.
    assert found.traffic == pytest.approx(5, abs=0.3)
    assert found.temporaries < 0.1
