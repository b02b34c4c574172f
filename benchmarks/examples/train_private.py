"""Differentially private training of a Flax NNX module, with a threshold that finds itself.

Run it with `python -m benchmarks.examples.train_private`. Every step's batch is a Poisson sample,
padded to a fixed size; the sum of the clipped gradients gets noise and is divided by the expected
size. What epsilon a run has cost is left to `dp_accounting`: its Poisson-sampled Gaussian mechanism
with the noise multiplier printed here is the whole step, the threshold's count included, as far as
the number of examples that the count is divided by may be known.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import clipax
from clipax import norms, per_example, thresholds

EXAMPLES, FEATURES, CLASSES = 2_000, 20, 3


def main(steps: int = 200, batch: int = 100, noise: float = 1.0) -> None:
    """Trains, and prints how it went."""
    before, after, threshold = train(steps, batch, noise)
    print(f"accuracy {before:.2f} -> {after:.2f}, threshold 0.10 -> {threshold:.2f}")
    print(
        f"for the accountant: {steps} steps, sampling probability {batch / EXAMPLES:g}, noise "
        f"multiplier {noise:g}"
    )


def train(steps: int, batch: int, noise: float) -> tuple[float, float, float]:
    """Accuracy before and after training, and the last threshold."""
    images, labels = _data()
    module = nnx.Sequential(
        nnx.Linear(FEATURES, 32, rngs=nnx.Rngs(0)),
        nnx.relu,
        nnx.Linear(32, CLASSES, rngs=nnx.Rngs(1)),
    )
    graph, params = nnx.split(module, nnx.Param)

    def loss(params: Any, image: Any, label: Any) -> Any:
        logits = nnx.merge(graph, params)(image)
        return optax.softmax_cross_entropy_with_integer_labels(logits, label)

    count_noise = max(batch / 20, 0.51 * noise)
    grad = clipax.clipped_grad(
        loss,
        threshold=1.0,
        reduction="sum",
        noise_multiplier=per_example.noise_split(noise, count_noise),
        microbatch_size=16,
    )
    # The threshold is the gradient's, not the update's: the factor 1 leaves what is noised alone.
    follow = norms.observe(thresholds.geometric_quantile(0.5, noise=count_noise))
    optimizer = optax.chain(clipax.scale_by_norm(follow), optax.adam(0.01))

    @jax.jit
    def step(params: Any, state: Any, images: Any, labels: Any, mask: Any, key: Any) -> Any:
        now = per_example.current_threshold(state)
        total, stats = grad(params, images, labels, threshold=now, mask=mask, key=key)
        grads = jax.tree.map(lambda one: one / batch, total)
        updates, state = optimizer.update(grads, state, params, example_norms=stats.norms)
        return optax.apply_updates(params, updates), state

    draw = np.random.default_rng(1)
    padded = 2 * batch
    before, state = _accuracy(graph, params, images, labels), optimizer.init(params)
    for key in jax.random.split(jax.random.key(0), steps):
        chosen = np.flatnonzero(draw.random(EXAMPLES) < batch / EXAMPLES)[:padded]
        mask = np.arange(padded) < len(chosen)
        places = np.resize(chosen, padded) if len(chosen) else np.zeros(padded, int)
        params, state = step(params, state, images[places], labels[places], mask, key)
    after = _accuracy(graph, params, images, labels)
    return before, after, float(per_example.current_threshold(state))


def _data() -> tuple[np.ndarray, np.ndarray]:
    """Three normal clouds that overlap."""
    draw = np.random.default_rng(0)
    labels = draw.integers(CLASSES, size=EXAMPLES)
    centres = draw.normal(size=(CLASSES, FEATURES)) / 3
    images = centres[labels] + draw.normal(size=(EXAMPLES, FEATURES))
    return images.astype(np.float32), labels


def _accuracy(graph: Any, params: Any, images: Any, labels: Any) -> float:
    return float(jnp.mean(nnx.merge(graph, params)(images).argmax(-1) == labels))


if __name__ == "__main__":
    main()
