"""Draws a hundred million variates of each heavy-tailed law and holds their tails against it.

Run it with `python -m benchmarks.noise_tails`; README.md says what it is for.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table
from scipy import optimize, special, stats

from benchmarks.measure import environment
from clipax.lab import noise

__all__ = ["Tail", "main", "measure", "stable_survival"]

# P(|x| > t), exact or to far better than the counts can tell.
Survival = Callable[[float], float]

SHARES = (1e-3, 1e-4, 1e-5, 1e-6)
CHUNK = 1 << 21
# Two-sided, of one count among some forty: a true law is accused once in ten thousand runs.
LEVEL = 1e-6


@dataclass(frozen=True)
class Tail:
    """What a law's draws did.

    Attributes:
      law: The law.
      draws: How many.
      not_finite: How many of them were NaN or infinite.
      counts: For each share, how many draws were beyond the point that share of the law is beyond.
      largest: The largest magnitude.
      expected_beyond: How many of as many draws the law puts beyond `largest`: about 1.
      float32_cap: The largest magnitude of a sampler whose uniforms are multiples of 2^-23.
      holds: Whether all draws are finite and the counts and the largest are the law's.
    """

    law: str
    draws: int
    not_finite: int
    counts: dict[str, int]
    largest: float
    expected_beyond: float
    float32_cap: float
    holds: bool


def stable_survival(alpha: float, beta: float, terms: int = 6) -> Survival:
    """P(|x| > t) of a stable law far out, by Zolotarev's expansion in powers of `t^-alpha`."""
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


def measure(law: noise.Law, survival: Survival, draws: int, seed: int) -> Tail:
    """Draws variates in chunks and counts those far out.

    Args:
      law: The law.
      survival: Its `P(|x| > t)`.
      draws: How many variates, made up to whole chunks.
      seed: Of the draws.

    Returns:
      The counts and whether they are the law's.
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
    return Tail(
        str(law),
        draws,
        bad,
        {f"{share:g}": int(count) for share, count in zip(SHARES, counts, strict=True)},
        largest,
        beyond,
        _point(survival, 2.0**-23),
        bad == 0 and fair and extreme,
    )


def _point(survival: Survival, share: float) -> float:
    """The point that a share of the law is beyond."""
    # From far out inwards: an expansion holds there alone.
    far = 2.0**100
    while survival(far / 2) < share:
        far /= 2
    return float(optimize.brentq(lambda t: survival(t) / share - 1, far / 2, far, rtol=1e-12))


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the check.

    Args:
      arguments: Command line; by default the process's own.

    Returns:
      The exit status: 0, or 1 where a law's draws are not the law's.
    """
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.noise_tails", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--draws", type=float, default=1e8, help="of each law (default 1e8)")
    parser.add_argument("--seed", type=int, default=0, help="of the draws (default 0)")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write what was counted")
    options = parser.parse_args(arguments)
    if not 1e6 <= options.draws <= 1e12:
        parser.error(f"--draws must be between 1e6 and 1e12, got {options.draws:g}")
    shown = Table("law", "not finite", *[f"> {share:g}" for share in SHARES], title="draws beyond")
    for column in ("largest", "beyond it", "cap of 2^-23", ""):
        shown.add_column(column, justify="right")
    tails = []
    for law, survival in LAWS:
        tail = measure(law, survival, int(options.draws), options.seed)
        tails.append(tail)
        shown.add_row(
            tail.law,
            f"{tail.not_finite}",
            *[f"{count:,}" for count in tail.counts.values()],
            f"{tail.largest:.3g}",
            f"{tail.expected_beyond:.2g}",
            f"{tail.float32_cap:.3g}",
            "holds" if tail.holds else "MISSED",
        )
    Console(width=140).print(shown)
    if options.json is not None:
        settings = environment()
        content = {"settings": settings, "tails": [asdict(tail) for tail in tails]}
        options.json.write_text(json.dumps(content, indent=1) + "\n")
    return int(not all(tail.holds for tail in tails))


if __name__ == "__main__":
    sys.exit(main())
