"""The laboratory: optimizers under noise, on real data (`compare`) and on problems (`simulate`).

It needs the extra `lab`: `pip install "clipax[lab]"`. Nothing else in the package imports it.
"""

from clipax.lab.compare import compare
from clipax.lab.data import Dataset, load_data
from clipax.lab.errors import InputError
from clipax.lab.noise import Noise, parse_noise
from clipax.lab.results import MethodResult
from clipax.lab.settings import Settings

__all__ = [
    "Dataset",
    "InputError",
    "MethodResult",
    "Noise",
    "Settings",
    "compare",
    "load_data",
    "parse_noise",
]
