"""The text that the transformer reads, its batches, and the transformer."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from clipax.lab._compare.tasks.text import Transformer, make_text_task


def test_batches_are_pieces_of_the_training_text_by_the_seed():
    task = make_text_task(4)
    first, second = (next(iter(task.batches(seed))) for seed in (0, 1))
    assert first.shape == (4, 33)
    np.testing.assert_array_equal(first, next(iter(task.batches(0))))
    assert (first != second).any()
    assert (first.min() >= 0, first.max() < 95) == (True, True)


def test_validation_and_test_are_parts_that_training_never_sees():
    task = make_text_task(4_000)
    held_out = {part: {row.tobytes() for row in rows} for part, rows in task.held_out.items()}
    assert len(held_out["validation"]) == len(held_out["test"]) == 64
    assert not held_out["validation"] & held_out["test"]
    trained = {row.tobytes() for row in next(iter(task.batches(0)))}
    # Lines of blanks or dashes are everywhere.
    common = trained & (held_out["validation"] | held_out["test"])
    assert all(len(set(np.frombuffer(row, np.int32))) < 3 for row in common)


def test_a_corrupt_batch_repeats_one_character_in_each_sequence():
    task = make_text_task(8)
    batch = next(iter(task.batches(0)))
    spoiled = task.corrupt(batch, np.random.default_rng(0))
    assert (spoiled.shape, spoiled.dtype) == (batch.shape, batch.dtype)
    assert (spoiled == spoiled[:, :1]).all()
    assert len(np.unique(spoiled[:, 0])) > 4


def test_the_transformer_sees_no_later_character():
    model = Transformer(10, rngs=nnx.Rngs(0))
    tokens = jnp.arange(12)[None] % 10
    changed = tokens.at[0, 7].set(0)
    before, after = model(tokens), model(changed)
    assert before.shape == (1, 12, 10)
    np.testing.assert_allclose(before[0, :7], after[0, :7], atol=1e-6)
    assert (jnp.abs(before[0, 7:] - after[0, 7:]).max(-1) > 1e-4).all()


def test_the_loss_before_training_is_near_that_of_guessing():
    task = make_text_task(8)
    loss = task.loss(task.init(jax.random.key(0)), task.validation)
    assert abs(loss - np.log(95)) < 1
