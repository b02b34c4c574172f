"""Results of methods that were never run."""

import math

from clipax.lab._compare.norms import Norms
from clipax.lab._compare.results import MethodResult

INF, NAN = math.inf, math.nan
_TRIED = ((2.0, 2.1), (0.3, 0.4), (INF, 3.0))


def make(method, losses, *, diverged=0, clip_fraction=None, chosen=1, plain=None, threshold=None):
    """A result with the given last losses and so many more seeds that diverged."""
    finals = [*losses, *[INF] * diverged]
    last = [(0.9 if math.isfinite(final) else NAN) for final in finals]
    return MethodResult(
        method=method,
        plain=plain,
        argument=None if threshold is None else "max_norm",
        settings=((0.01, threshold), (0.1, threshold), (1.0, threshold)),
        validation_loss=_TRIED,
        chosen=chosen,
        python=f"optax.{method}(learning_rate=0.1)",
        seeds=tuple(range(2, 2 + len(finals))),
        points=(0, 10, 20),
        scores={
            "loss": tuple((2.3, 1.0 if math.isfinite(end) else INF, end) for end in finals),
            "accuracy": tuple((0.1, 0.5, end) for end in last),
        },
        clip_fraction=clip_fraction,
        seconds=1.0,
    )


RESULTS = [
    make(
        "clip_by_global_norm+sgd",
        [0.1, 0.2, 0.3, 0.4],
        clip_fraction=(0.5, 0.6, 0.7, 0.8),
        plain="sgd",
        threshold=0.5,
    ),
    make("delayed_clip_adagrad_norm", [0.5, 0.6, 0.7], diverged=1, chosen=2),
    make("sgd", [], diverged=4),
]

NORMS = Norms(
    steps=tuple(range(20)),
    series=tuple(1.0 + 0.1 * step for step in range(20)),
    values=tuple(float(1 + level) for level in Norms.levels()),
    largest_ratio=40.0,
    far=0.01,
)
