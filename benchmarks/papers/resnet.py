"""The residual networks for CIFAR-10, in training mode.

K. He, X. Zhang, S. Ren, J. Sun, "Deep Residual Learning for Image Recognition", arXiv 1512.03385,
section 4.2, with projections where the size changes, as in the code of B. Zhang et al.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["Params", "apply", "init"]

Params = dict[str, jax.Array]
_EPSILON = 1e-5  # torch's, in batch normalisation


def init(rng: np.random.Generator, channels: int, widths: tuple[int, ...], blocks: int) -> Params:
    """Draws weights as He et al. do: normal, of variance 2 / (entries of a kernel x outputs).

    Args:
      rng: Source of the weights.
      channels: Of the images.
      widths: Channels of each stage; all but the first halve the size.
      blocks: Residual blocks in a stage, of two convolutions each: the depth is
        `2 * blocks * len(widths) + 2`.

    Returns:
      Kernels, scales and shifts of the normalisations, and the last layer.
    """
    params: Params = {}

    def convolution(name: str, size: int, inside: int, outside: int) -> None:
        deviation = math.sqrt(2 / (size * size * outside))
        kernel = deviation * rng.normal(size=(size, size, inside, outside))
        params[name] = jnp.asarray(kernel, jnp.float32)
        params[f"{name}_scale"] = jnp.ones(outside)
        params[f"{name}_shift"] = jnp.zeros(outside)

    convolution("stem", 3, channels, widths[0])
    before = widths[0]
    for stage, width in enumerate(widths):
        for block in range(blocks):
            convolution(f"{stage}.{block}.a", 3, before, width)
            convolution(f"{stage}.{block}.b", 3, width, width)
            if before != width:
                convolution(f"{stage}.{block}.skip", 1, before, width)
            before = width
    bound = before**-0.5  # torch's default for a linear layer
    params["out"] = jnp.asarray(rng.uniform(-bound, bound, (before, 10)), jnp.float32)
    params["out_bias"] = jnp.asarray(rng.uniform(-bound, bound, 10), jnp.float32)
    return params


def apply(params: Params, images: jax.Array, stages: int, blocks: int) -> jax.Array:
    """Computes logits; normalisations take mean and variance of the batch.

    Args:
      params: Of `init`.
      images: Of shape (n, height, width, channels).
      stages: Number of widths.
      blocks: As in `init`.

    Returns:
      Logits of shape (n, 10).
    """

    def convolution(x: jax.Array, name: str, stride: int = 1) -> jax.Array:
        kernel = params[name]
        x = jax.lax.conv_general_dilated(
            x,
            kernel,
            (stride, stride),
            [(kernel.shape[0] // 2,) * 2] * 2,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        x = x - x.mean((0, 1, 2))
        x = x * jax.lax.rsqrt((x * x).mean((0, 1, 2)) + _EPSILON)
        return x * params[f"{name}_scale"] + params[f"{name}_shift"]

    x = jax.nn.relu(convolution(images, "stem"))
    for stage in range(stages):
        for block in range(blocks):
            name, stride = f"{stage}.{block}", 2 if stage and not block else 1
            inner = jax.nn.relu(convolution(x, f"{name}.a", stride))
            inner = convolution(inner, f"{name}.b")
            skip = convolution(x, f"{name}.skip", stride) if f"{name}.skip" in params else x
            x = jax.nn.relu(skip + inner)
    return x.mean((1, 2)) @ params["out"] + params["out_bias"]
