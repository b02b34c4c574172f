"""Results of methods that were never run."""

import math

from clipax.lab._compare.results import MethodResult

INF = math.inf


def make(method, losses, *, diverged=0, clip_fraction=None, rate=0.1):
    """A result with the given last losses and so many more seeds that diverged."""
    finals = [*losses, *[INF] * diverged]
    return MethodResult(
        method=method,
        learning_rates=(0.01, 0.1, 1.0),
        validation_loss=((2.0, 2.1), (0.3, 0.4), (INF, 3.0)),
        learning_rate=rate,
        seeds=tuple(range(4, 4 + len(finals))),
        points=(0, 10, 20),
        loss=tuple((2.3, 1.0 if math.isfinite(final) else INF, final) for final in finals),
        accuracy=tuple((0.1, 0.5, 0.9 if math.isfinite(final) else 0.0) for final in finals),
        clip_fraction=clip_fraction,
        seconds=1.0,
    )


RESULTS = [
    make("clip_sgd", [0.1, 0.2, 0.3, 0.4], clip_fraction=(0.5, 0.6, 0.7, 0.8)),
    make("delayed_clip_adagrad_norm", [0.5, 0.6, 0.7], diverged=1, rate=1.0),
    make("sgd", [], diverged=4),
]
