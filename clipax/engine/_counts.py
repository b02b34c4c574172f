"""The counts of a guard: how many steps it saw, and how many it skipped for what."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from clipax._typing import Array

__all__ = ["Counts", "add_step", "init_counts"]


class Counts:
    """The counts of a guard in the last axis of one array, `counts`: a GPU writes it at once."""

    __slots__ = ()
    counts: Array

    @property
    def steps(self) -> Array:
        """Return the number of steps, skipped ones included."""
        return self.counts[..., 0]

    @property
    def skipped_count(self) -> Array:
        """Return the number of steps skipped, for whatever reason."""
        return self.counts[..., 1]

    @property
    def nonfinite_count(self) -> Array:
        """Return the number of steps skipped because a number was not finite."""
        return self.counts[..., 2]

    @property
    def spike_count(self) -> Array:
        """Return the number of steps with a spike, including those that were taken all the same."""
        return self.counts[..., 3]

    @property
    def consecutive_count(self) -> Array:
        """Return the number of steps skipped in a row up to now."""
        return self.counts[..., 4]

    @property
    def consecutive_nonfinite(self) -> Array:
        """Return how many of them were skipped for a number that was not finite."""
        return self.counts[..., 5]

    @property
    def is_finite(self) -> Array:
        """Tell whether what was judged of the last step was finite."""
        return self.consecutive_nonfinite == 0


def init_counts(spikes: bool = False) -> Array:
    """Make the counts before the first step; the last is there where spikes are counted."""
    return jnp.zeros(7 if spikes else 6, jnp.int32)


def add_step(
    counts: Array,
    *,
    skipped: Array,
    nonfinite: Array,
    spike: Array | None = None,
    spikes_in_a_row: Array | None = None,
) -> Array:
    """Add a step to the counts of a guard, up to the largest number."""
    spike = jnp.zeros_like(skipped) if spike is None else spike
    columns = jnp.ones_like(skipped), skipped, nonfinite, spike, skipped, nonfinite
    added = jnp.stack(columns).astype(counts.dtype)
    before = counts[: len(columns)]
    more = jnp.where(before == np.iinfo(np.int32).max, before, before + added)
    # The last two count in a row.
    after = jnp.where((np.arange(len(columns)) >= 4) & (added == 0), 0, more)
    return after if spikes_in_a_row is None else jnp.append(after, spikes_in_a_row)
