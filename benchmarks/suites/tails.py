"""Draws a hundred million variates of each heavy-tailed law and holds their tails against it."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from scipy import optimize, special, stats

from benchmarks.harness import records
from benchmarks.harness.records import Column, Finding, Row
from benchmarks.harness.suite import Option, Suite
from clipax.lab import noise

# P(|x| > t), exact or to far better than the counts can tell.
Survival = Callable[[float], float]

SHARES = (1e-3, 1e-4, 1e-5, 1e-6)
CHUNK = 1 << 21
# Two-sided, of one count among some forty: a true law is accused once in ten thousand runs.
LEVEL = 1e-6


def stable_survival(alpha: float, beta: float, terms: int = 6) -> Survival:
    """Makes P(|x| > t) of a stable law far out, by Zolotarev's expansion in `t^-alpha`."""
    lean = beta * math.tan(math.pi * alpha / 2)
    size = (1 + lean**2) ** (0.5 / alpha)

    def one_side(t: float, sign: int) -> float:
        positive = 0.5 + math.atan(sign * lean) / (math.pi * alpha)
        return sum(
            (-1) ** (n - 1)
            * math.exp(math.lgamma(n * alpha) - math.lgamma(n + 1))
            * math.sin(n * math.pi * alpha * positive)
            * (t / size) ** (-n * alpha)
            for n in range(1, terms + 1)
        )

    return lambda t: (one_side(t, 1) + one_side(t, -1)) / math.pi


LAWS: list[tuple[noise.Law, Survival]] = [
    (noise.pareto(1.5), lambda t: (1 + t) ** -1.5),
    (noise.skewed_pareto(1.5), lambda t: (t + 3) ** -1.5),
    (noise.student_t(1.5), lambda t: 2 * float(stats.t(1.5).sf(t))),
    (noise.cauchy(), lambda t: 2 * float(stats.cauchy.sf(t))),
    (noise.alpha_stable(1.5), stable_survival(1.5, 0)),
    (noise.alpha_stable(1.2), stable_survival(1.2, 0)),
    (noise.alpha_stable(1.5, 0.5), stable_survival(1.5, 0.5)),
    (noise.alpha_stable(1.5, 1.0), stable_survival(1.5, 1)),
    (noise.alpha_stable(0.5, 1.0), lambda t: float(special.erf(math.sqrt(0.5 / t)))),
    (noise.burr(2.0, 0.75), lambda t: (1 + t**2) ** -0.75),
    (noise.weibull(0.5), lambda t: math.exp(-math.sqrt(t))),
]


def measure_law(law: noise.Law, survival: Survival, draws: int, seed: int) -> Row:
    """Draws variates in whole chunks and counts those that are not finite and those far out.

    A key for each share: how many draws were beyond the point that the share of the law is beyond;
    `expected_beyond`: how many the law puts beyond the largest, about 1; `float32_cap`: where a
    sampler whose uniforms are multiples of 2^-23 would end.
    """
    points = jnp.asarray([_point(survival, share) for share in SHARES], jnp.float32)

    @jax.jit
    def chunk(key: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        x = jnp.abs(law.sample(key, (CHUNK,)))
        counts = jnp.stack([jnp.sum(x > point) for point in points])
        return jnp.sum(~jnp.isfinite(x)), counts, jnp.max(x)

    chunks = -(-draws // CHUNK)
    draws = chunks * CHUNK
    bad, counts, largest = 0, np.zeros(len(SHARES), np.int64), 0.0
    for key in jax.random.split(jax.random.key(seed), chunks):
        found = chunk(key)
        bad += int(found[0])
        counts += np.asarray(found[1])
        largest = max(largest, float(found[2]))
    beyond = draws * survival(largest) if math.isfinite(largest) else 0.0
    # As the law puts them, given how the points were rounded.
    shares = [survival(float(point)) for point in points]
    fair = all(
        stats.binomtest(int(count), draws, share).pvalue > LEVEL
        for count, share in zip(counts, shares, strict=True)
    )
    # The number of draws beyond the largest is a standard exponential.
    extreme = LEVEL < beyond < -math.log(LEVEL)
    return {
        "law": str(law),
        "draws": draws,
        "not_finite": bad,
        **{f"{share:g}": int(count) for share, count in zip(SHARES, counts, strict=True)},
        "largest": largest,
        "expected_beyond": beyond,
        "float32_cap": _point(survival, 2.0**-23),
        "holds": bool(bad == 0 and fair and extreme),
    }


def _point(survival: Survival, share: float) -> float:
    """The point that a share of the law is beyond."""
    # From far out inwards: an expansion holds there alone.
    far = 2.0**100
    while survival(far / 2) < share:
        far /= 2
    return float(optimize.brentq(lambda t: survival(t) / share - 1, far / 2, far, rtol=1e-12))


def measure(options: argparse.Namespace) -> Iterator[list[Row]]:
    """Measures law after law."""
    for law, survival in LAWS:
        print(law, file=sys.stderr, flush=True)
        yield [measure_law(law, survival, int(options.draws), options.seed)]


def judge(rows: Sequence[Row], device: str) -> Iterator[Finding]:
    """Judges by an exact binomial test of each count, and that all draws are finite."""
    for row in rows:
        yield records.judge("draws are not the law's", row["law"], float(not row["holds"]), 0.0)


def _draws(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 1e6 <= number <= 1e12:
        raise argparse.ArgumentTypeError(f"must be between 1e6 and 1e12, got {text!r}")
    return number


SUITE = Suite(
    "draws of heavy-tailed laws beyond the points that a share of the law is beyond",
    (),
    (
        Column("law", "law"),
        Column("not finite", "not_finite"),
        *(Column(f"> {share:g}", f"{share:g}", "{:,}") for share in SHARES),
        Column("largest", "largest", "{:.3g}"),
        Column("beyond it", "expected_beyond", "{:.2g}"),
        Column("cap of 2^-23", "float32_cap", "{:.3g}"),
        Column("the law's", "holds"),
    ),
    measure,
    judge,
    (Option("--draws", "of each law", 1e8, _draws), Option("--seed", "of the draws", 0, int)),
    prepare=lambda options: {"seed": str(options.seed)},
)
