"""Gradients of functions of one example, clipped one by one and then averaged or summed.

M. Abadi, A. Chu, I. Goodfellow et al., "Deep Learning with Differential Privacy", CCS 2016, arXiv
1607.00133.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from clipax import _validate, scopes
from clipax._typing import Array, Params, Scalar, ScalarOrSchedule
from clipax.per_example._clipped import ClippedGrad
from clipax.per_example._evaluate import evaluate
from clipax.per_example._options import Options
from clipax.per_example._release import ExampleStats
from clipax.per_example._responses import RESPONSES
from clipax.scopes import Scope

__all__ = ["ExampleStats", "clipped_grad", "clipped_value_and_grad"]


def clipped_value_and_grad(
    fun: Callable[..., Any],
    threshold: ScalarOrSchedule,
    *,
    scope: str | Scope = "global",
    response: str = "hard",
    eps: Scalar = 0.01,
    reduction: str = "mean",
    microbatch_size: int | None = None,
    has_aux: bool = False,
    noise_multiplier: Scalar | None = None,
    axis_name: str | tuple[str, ...] | None = None,
) -> ClippedGrad[tuple[tuple[Array, ExampleStats], Any]]:
    """Make `clipped_grad` that returns the loss as well.

    Args:
      fun: As for `clipped_grad`, and so are all other arguments.
      threshold: Largest norm of one example's contribution, or a function of the example's place.
      scope: Which entries of one example's gradient share a norm.
      response: How norms are brought under the threshold.
      eps: For the responses `"normalize"` and `"psac"`.
      reduction: `"mean"` or `"sum"`, of the losses too.
      microbatch_size: Examples that are worked on at a time.
      has_aux: Whether `fun` returns a pair of the loss and anything else.
      noise_multiplier: Standard deviation of the noise, in units of what one example can add.
      axis_name: Mesh axes over which the batch is sharded, inside `shard_map`.

    Returns:
      A `ClippedGrad`, from `(params, *batch, threshold=None, mask=None, key=None)` to `((value,
      stats), grads)`. The value is the mean or sum of the losses; an example that adds nothing to
      the gradient adds nothing to it either. It is not clipped and gets no noise: it is not
      private.

    Example:
      >>> import jax.numpy as jnp, clipax
      >>> step = clipax.clipped_value_and_grad(lambda w, x, y: (w * x - y) ** 2 / 2, 1.0)
      >>> (value, stats), grad = step(jnp.array(0.0), jnp.array([1.0, 1.0]), jnp.array([0.5, 4.0]))
      >>> print(value, grad, stats.norms)
      4.0625 -0.75 [0.5 4. ]
    """
    _validate.one_of("response", response, RESPONSES)
    _validate.non_negative("eps", eps)
    _validate.one_of("reduction", reduction, ("mean", "sum"))
    if noise_multiplier is not None:
        _validate.non_negative("noise_multiplier", noise_multiplier)
    if not callable(fun):
        raise TypeError(f"`fun` must be a function of parameters and one example, got {fun!r}.")
    size = 1 if microbatch_size is None else microbatch_size
    options = Options(
        fun=fun,
        threshold=threshold,
        scope=scopes.resolve(scope),
        response=response,
        eps=eps,
        reduction=reduction,
        microbatch_size=_validate.size("microbatch_size", size),
        has_aux=bool(has_aux),
        noise_multiplier=noise_multiplier,
        axis_name=axis_name,
    )
    options.check(threshold)

    def value_and_grad(
        params: Params,
        *batch: Any,
        threshold: ScalarOrSchedule | None = None,
        mask: Any = None,
        key: Array | None = None,
    ) -> tuple[tuple[Array, ExampleStats], Any]:
        if threshold is not None:
            options.check(threshold)
        now = options.threshold if threshold is None else threshold
        return evaluate(options, params, batch, now, mask, key)

    return ClippedGrad(value_and_grad, options)


def clipped_grad(
    fun: Callable[..., Any],
    threshold: ScalarOrSchedule,
    *,
    scope: str | Scope = "global",
    response: str = "hard",
    eps: Scalar = 0.01,
    reduction: str = "mean",
    microbatch_size: int | None = None,
    has_aux: bool = False,
    noise_multiplier: Scalar | None = None,
    axis_name: str | tuple[str, ...] | None = None,
) -> ClippedGrad[tuple[Any, ExampleStats]]:
    """Clip the gradient of every example, then average or sum them, in little memory.

    No example moves the result by more than the threshold, whatever its gradient is. Use it for
    data with outliers and for differentially private training; clipping the averaged gradient does
    not bound an example's part. Memory holds one sum and the gradients of one microbatch.

        g = 1/m (sum_{i=1}^m f(n_i) grad l_i + z C N(0, I)),
        n_i = ||grad l_i||,
        f(n) = min(1, C/n)

    with `l_i` the loss `fun(params, *example)` of the i-th of m examples, `C` the `threshold` and
    `z` the `noise_multiplier`; without the first factor for `reduction="sum"`.

    Args:
      fun: From parameters and one example (the batch's arrays without their first axis) to a
        scalar loss; with `has_aux`, to a pair of the loss and anything else.
      threshold: Largest norm of one example's contribution, positive (infinity: never clip), or a
        function of the example's place in the batch, from 0: `thresholds.power(alpha, beta,
        "convex")` is PS-Clip-SGD's `alpha k^(1/beta)`. Each call may take another.
      scope: Which entries of one example's gradient share a norm, as for `scale_by_norm`. Each
        block is clipped at the threshold.
      response: `"hard"` (default), as above; `"normalize"` is AUTO-S, `f(n) = C/(n + epsilon)`;
        `"psac"` is that of DP-PSAC, `f(n) = C/(n + epsilon/(n + epsilon))`, which leaves the
        smallest gradients small; `"sqrt"`, `"rational"`, `"tanh"` and `"huber"` as for
        `clipax.norms.clip`.
      eps: `epsilon` of `"normalize"` and `"psac"`, non-negative; default .01 as in the paper of
        AUTO-S. Zero is AUTO-V, `f(n) = C/n`.
      reduction: `"mean"` (default) over the examples that the mask lets in, or `"sum"`. Private
        training on sampled batches should take the sum and divide it by the expected batch size:
        the actual size is not public.
      microbatch_size: Examples in a microbatch, at least 1; None (default) for 1, the least memory.
        An accelerator may be faster with more, a CPU with 8 where an example is many words; each
        costs the memory of a gradient or two. A batch need not be divisible by it.
      has_aux: Whether `fun` returns a pair.
      noise_multiplier: `z`, non-negative: the standard deviation of the Gaussian noise on the sum,
        in units of the largest norm of one example's contribution, which is C times the root of the
        number of the scope's blocks. None (default): no noise.
      axis_name: Mesh axes over which the batch is sharded, inside `shard_map`; None under `jit`.

    Returns:
      A `ClippedGrad`: a function `(params, *batch, threshold=None, mask=None, key=None) -> (grads,
      stats)`, to be compiled with `jax.jit` or within a training step, whose method `sensitivity`
      says how far one example can move the gradients. `mask` is a vector, false for the examples
      that are padding; `key`, with a `noise_multiplier`, a fresh key of `jax.random` for each call.
      The gradients have the parameters' types; `stats` is an `ExampleStats`.

    Raises:
      ValueError: `threshold` infinite with noise, `"normalize"` or `"psac"`, or a function with
        noise. When called: no example, arrays of different lengths, a mask of another shape,
        a `key` without a `noise_multiplier` or the reverse, noise in a scope that leaves parameters
        out, mesh axes not named.
      TypeError: When called: `fun` does not return a scalar, or with `has_aux` a pair with arrays;
        `key` is not one key; a parameter is not floating-point.

    Notes:
      One example's contribution to the sum, cast to the parameters' type, has a norm of at most
      `threshold * (1 + 4 eps)`, with `eps` of that type, for any number of leaves (block by block
      in other scopes). Norms, factors, sums and noise are computed in float32 or better; noise is
      added once, to the sum over all devices. The result does not depend on the microbatch's size
      but for rounding. Memory does not grow with the batch, outputs for each example apart.

      - An example with a NaN or an infinity in its loss or gradient adds zero and is counted; its
        norm reads infinite, and it is still one of the examples that the mean is over.
      - One left out by the mask adds zero and is not counted; its norm reads -1.
      - Where all are left out the result is zero (and noise); at a traced threshold that is not
        above zero it is zero (and no noise).

      Under `jit` with a batch sharded over its examples give a `microbatch_size` that is a multiple
      of the number of shards: neighbours in a microbatch come from different shards, so no example
      moves; the gradient is reduced once a microbatch. Inside `shard_map` with `axis_name` each
      device loops over its own examples and gradients are reduced once; pass the same key to every
      device. `norms` are then those of all devices' examples; `block_norms` and `aux` stay with
      their device.

      With `reduction="sum"` this is the Gaussian mechanism: adding or removing one example changes
      the sum by at most the largest contribution, rounding apart, and the noise is `z` times that.
      Left to other libraries (`dp_accounting`, `jax_privacy`): what epsilon and delta follow over a
      training run, sampling batches as that analysis assumes, and a cryptographic generator with
      noise that is safe on floating-point numbers. Not private: `stats`, losses and auxiliary
      output, a mean over a secret number of examples, and choices made by looking at them. A
      threshold that follows the norms costs privacy too: give `thresholds.geometric_quantile` a
      `noise` and take the multiplier that `noise_split` computes; its count is divided by the
      number of examples, which that analysis takes as public.

      An example that is not finite adds nothing, unlike in the papers. Abadi et al. divide by the
      expected batch size: see `reduction`.

    Example:
      The threshold lives in the optimizer's state and follows the median of the examples' norms;
      `norms.observe` leaves the averaged gradient as it is.

      >>> import jax, jax.numpy as jnp, optax, clipax
      >>> from clipax import norms, thresholds
      >>> grad = clipax.clipped_grad(lambda w, x, y: (w @ x - y) ** 2 / 2, threshold=1.0)
      >>> follow = norms.observe(thresholds.geometric_quantile(0.5, initial=1.0))
      >>> optimizer = optax.chain(clipax.scale_by_norm(follow), optax.sgd(0.1))
      >>> @jax.jit
      ... def step(w, state, x, y):
      ...     now = clipax.per_example.current_threshold(state)
      ...     grads, stats = grad(w, x, y, threshold=now)
      ...     updates, state = optimizer.update(grads, state, w, example_norms=stats.norms)
      ...     return optax.apply_updates(w, updates), state, stats
      >>> w = jnp.zeros(2)
      >>> x, y = jnp.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]]), jnp.array([0.5, 2.0, jnp.nan])
      >>> w, state, stats = step(w, optimizer.init(w), x, y)
      >>> print(w, stats.norms, stats.nonfinite_count)
      [0.01666667 0.03333334] [0.5 2.  inf] 1
      >>> print(f"{clipax.per_example.current_threshold(state):.4f}")  # half of two are within it
      1.0000

    References:
      M. Abadi, A. Chu, I. Goodfellow et al., "Deep Learning with Differential Privacy", CCS 2016,
      arXiv 1607.00133, Algorithm 1. G. Andrew et al., arXiv 1905.03871 (the threshold that
      follows). Z. Bu, Y.-X. Wang, S. Zha, G. Karypis, "Automatic Clipping", arXiv 2206.07136
      (AUTO-S, AUTO-V). T. Xia et al., "Differentially Private Learning with Per-Sample Adaptive
      Clipping", arXiv 2212.00328 (DP-PSAC). D. Nobile, P. Grohs, "Robust and Fast Training via
      Per-Sample Clipping", arXiv 2605.02701 (PS-Clip-SGD).
    """
    both = clipped_value_and_grad(
        fun,
        threshold,
        scope=scope,
        response=response,
        eps=eps,
        reduction=reduction,
        microbatch_size=microbatch_size,
        has_aux=has_aux,
        noise_multiplier=noise_multiplier,
        axis_name=axis_name,
    )

    def grad(
        params: Params,
        *batch: Any,
        threshold: ScalarOrSchedule | None = None,
        mask: Any = None,
        key: Array | None = None,
    ) -> tuple[Any, ExampleStats]:
        (_, stats), grads = both(params, *batch, threshold=threshold, mask=mask, key=key)
        return grads, stats

    return ClippedGrad(grad, both.options)
