"""Parameters from theorems: from a problem's constants to the arguments of an optimizer.

Each function takes the constants that a theorem assumes (smoothness, distance, noise, horizon, ...)
and returns a tuple whose `_asdict()` are keyword arguments of the optimizer that its name begins
with: `clipax.clip_sgd(**clipax.theory.clip_sgd_smooth(l0=1.0, l1=1.0)._asdict())`. All numbers are
plain Python numbers, correct to the last digits whatever the constants. An argument out of its
range raises ValueError, and so do constants whose result float64 cannot hold; a traced argument or
one that is no number raises TypeError.

`clipax.theory.dynamics` predicts the risk of clipped SGD on streaming least squares.
"""

from clipax.theory import dynamics as dynamics
from clipax.theory._chezhegov2025 import clip_adagrad_norm_convex as clip_adagrad_norm_convex
from clipax.theory._chezhegov2025 import clip_adam_norm_convex as clip_adam_norm_convex
from clipax.theory._chezhegov2025_nonconvex import (
    clip_adagrad_norm_nonconvex as clip_adagrad_norm_nonconvex,
)
from clipax.theory._chezhegov2025_nonconvex import (
    clip_adam_norm_nonconvex as clip_adam_norm_nonconvex,
)
from clipax.theory._chezhegov2025_reweighted import (
    clip_radagrad_norm_convex as clip_radagrad_norm_convex,
)
from clipax.theory._cutkosky2021 import (
    clip_normalized_momentum_nonconvex as clip_normalized_momentum_nonconvex,
)
from clipax.theory._koloskova2023 import clip_sgd_any_threshold as clip_sgd_any_threshold
from clipax.theory._koloskova2023 import clipping_bias as clipping_bias
from clipax.theory._merad2024 import quantile_clipping_bias as quantile_clipping_bias
from clipax.theory._parameters import ClipAdagradNormParameters as ClipAdagradNormParameters
from clipax.theory._parameters import ClipAdamNormParameters as ClipAdamNormParameters
from clipax.theory._parameters import (
    ClipNormalizedMomentumParameters as ClipNormalizedMomentumParameters,
)
from clipax.theory._parameters import ClipRadagradNormParameters as ClipRadagradNormParameters
from clipax.theory._parameters import ClipSgdParameters as ClipSgdParameters
from clipax.theory._parameters import NormalizedSgdParameters as NormalizedSgdParameters
from clipax.theory._parameters import OffsetClipSgdParameters as OffsetClipSgdParameters
from clipax.theory._parameters import SgdParameters as SgdParameters
from clipax.theory._sadiev2023 import clip_sgd_convex as clip_sgd_convex
from clipax.theory._vankov2024 import clip_sgd_tight as clip_sgd_tight
from clipax.theory._vankov2024 import normalized_sgd_tight as normalized_sgd_tight
from clipax.theory._zhang2020 import clip_sgd_bounded_noise as clip_sgd_bounded_noise
from clipax.theory._zhang2020 import clip_sgd_practical as clip_sgd_practical
from clipax.theory._zhang2020 import clip_sgd_smooth as clip_sgd_smooth
from clipax.theory._zhang2020 import sgd_smooth as sgd_smooth
