"""The laboratory: optimizers under noise, on real data (`compare`) and on problems (`simulate`).

It needs the extra `lab`: `pip install "clipax[lab]"`. Nothing else in the package imports it.
"""

from clipax.lab import noise, problems
from clipax.lab._compare.comparison import compare
from clipax.lab._compare.data import Dataset, Split, load_data
from clipax.lab._compare.plots import plot_curves
from clipax.lab._compare.results import MethodResult
from clipax.lab._compare.settings import Settings
from clipax.lab._errors import InputError
from clipax.lab._simulate.result import Curve, Simulation, quantile_interval
from clipax.lab._simulate.simulation import simulate
from clipax.lab.noise import Noise, parse_noise

__all__ = [
    "Curve",
    "Dataset",
    "InputError",
    "MethodResult",
    "Noise",
    "Settings",
    "Simulation",
    "Split",
    "compare",
    "load_data",
    "noise",
    "parse_noise",
    "plot_curves",
    "problems",
    "quantile_interval",
    "simulate",
]
