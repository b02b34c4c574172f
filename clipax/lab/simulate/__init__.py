"""Monte-Carlo runs of optimizers on a problem under noise: quantiles of 10^5 runs and more."""

from clipax.lab.simulate._result import Curve, Simulation, quantile_interval
from clipax.lab.simulate._simulate import simulate

__all__ = ["Curve", "Simulation", "quantile_interval", "simulate"]
