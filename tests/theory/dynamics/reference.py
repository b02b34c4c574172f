"""The dynamics of clipped SGD by adaptive quadrature and by SciPy's solver, in float64."""

from __future__ import annotations

import itertools
import math

import numpy as np
from scipy import integrate, optimize, stats

NODES, WEIGHTS = np.polynomial.legendre.leggauss(60)


def conditional(y, risk, c):
    """`P(|w| <= c)` and `E min(w^2, c^2)` for `w = s Z - y`, by quadrature over w."""
    s = math.sqrt(2 * risk)
    if s == 0:
        return float(abs(y) <= c), min(y * y, c * c)
    low, high = max(-c, -y - 12 * s), min(c, -y + 12 * s)
    if low >= high:
        return 0.0, c * c
    w = (low + high) / 2 + (high - low) / 2 * NODES
    mass = (high - low) / 2 * WEIGHTS * np.exp(-(((w + y) / s) ** 2) / 2)
    mass /= s * math.sqrt(2 * math.pi)
    mu = mass.sum()
    return mu, (mass * w**2).sum() + c * c * (1 - mu)


def factors(law, risk, c):
    """Both factors under a symmetric frozen law of `scipy.stats`, or atoms by probability."""
    if isinstance(law, dict):
        found = [np.multiply(p, conditional(atom, risk, c)) for atom, p in law.items()]
        return tuple(np.sum(found, 0))
    s = math.sqrt(2 * risk)
    end = law.support()[1]
    ends = sorted({0.0, min(c, end), min(c + 8 * s, end), min(max(c - 8 * s, 0), end), end})

    def expected(place):
        parts = [
            integrate.quad(
                lambda y: law.pdf(y) * conditional(y, risk, c)[place],
                a,
                b,
                epsabs=0,
                epsrel=1e-9,
                limit=200,
            )[0]
            for a, b in itertools.pairwise(ends)
        ]
        return 2 * sum(parts)

    return expected(0), expected(1)


def gaussian_factors(sigma, risk, c):
    """In closed form, by `scipy.stats`."""
    square = 2 * risk + sigma**2
    z = c / math.sqrt(square)
    inside = stats.chi2.cdf(z * z, 1)
    return inside, square * stats.chi2.cdf(z * z, 3) + c * c * (1 - inside)


def risks(spectrum, start, found, rate, threshold, times):
    """The ODE by an adaptive method of high order; `found(risk, c)` gives both factors."""
    d = spectrum.sum()

    def slope(t, v):
        mu, m2 = found(spectrum @ v, threshold(t))
        return rate(t) * spectrum * (-2 * mu * v + rate(t) * m2 / (2 * d))

    solved = integrate.solve_ivp(
        slope, (0, max(times)), start, "DOP853", times, rtol=1e-9, atol=1e-12
    )
    return spectrum @ solved.y


def best_threshold(found, scale):
    """Of `mu^2/m2`, by a dense grid and then by Brent's method."""

    def negative(log_c):
        mu, m2 = found(math.exp(log_c))
        return -(mu**2) / m2

    grid = np.log(np.geomspace(0.01, 8, 200) * scale)
    place = int(np.argmin([negative(x) for x in grid]))
    around = grid[max(place - 1, 0)], grid[min(place + 1, 199)]
    result = optimize.minimize_scalar(negative, bounds=around, method="bounded")
    return math.exp(result.x), -result.fun
