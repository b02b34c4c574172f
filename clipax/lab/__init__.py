"""The laboratory: optimizers under noise, on real data (`compare`) and on problems (`simulate`).

It needs the extra `lab`: `pip install "clipax[lab]"`. Nothing else in the package imports it.
"""

from clipax.lab import noise as noise
from clipax.lab import problems as problems
from clipax.lab._compare.comparison import compare as compare
from clipax.lab._compare.outcome import Comparison as Comparison
from clipax.lab._compare.results import MethodResult as MethodResult
from clipax.lab._compare.tasks.data import Dataset as Dataset
from clipax.lab._compare.tasks.data import Split as Split
from clipax.lab._compare.tasks.data import load_data as load_data
from clipax.lab._compare.tasks.task import Task as Task
from clipax.lab._errors import InputError as InputError
from clipax.lab._simulate.result import Curve as Curve
from clipax.lab._simulate.result import Simulation as Simulation
from clipax.lab._simulate.result import quantile_interval as quantile_interval
from clipax.lab._simulate.simulation import simulate as simulate
from clipax.lab.noise import Noise as Noise
from clipax.lab.noise import parse_noise as parse_noise
