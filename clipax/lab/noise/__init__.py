"""Laws of gradient noise: pure functions of random words, or of a key and a shape.

Each constructor gives a `Law`, which knows its mean, variance and tail index.
"""

from clipax.lab.noise._law import Law as Law
from clipax.lab.noise._parse import LAWS as LAWS
from clipax.lab.noise._parse import Noise as Noise
from clipax.lab.noise._parse import parse_noise as parse_noise
from clipax.lab.noise._skewed import burr as burr
from clipax.lab.noise._skewed import chi_square as chi_square
from clipax.lab.noise._skewed import exponential as exponential
from clipax.lab.noise._skewed import skewed_pareto as skewed_pareto
from clipax.lab.noise._skewed import two_point as two_point
from clipax.lab.noise._skewed import weibull as weibull
from clipax.lab.noise._stable import alpha_stable as alpha_stable
from clipax.lab.noise._symmetric import cauchy as cauchy
from clipax.lab.noise._symmetric import gaussian as gaussian
from clipax.lab.noise._symmetric import laplace as laplace
from clipax.lab.noise._symmetric import pareto as pareto
from clipax.lab.noise._symmetric import rademacher_like as rademacher_like
from clipax.lab.noise._symmetric import student_t as student_t
from clipax.lab.noise._symmetric import uniform as uniform
