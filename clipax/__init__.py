"""Gradient clipping for JAX: composable, fast `optax` gradient transformations.

Measure once, decide on a few numbers, apply once: a gradient is read once for its norms, all
methods in a chain decide on the norms, and the gradient is multiplied once.
"""

from clipax import _interruption  # isort: skip  # noqa: F401  (first: imports take seconds)
from importlib.metadata import PackageNotFoundError as _PackageNotFoundError
from importlib.metadata import version as _version
from typing import TYPE_CHECKING

from clipax import diagnostics as diagnostics
from clipax import norms as norms
from clipax import optimizers as optimizers
from clipax import per_example as per_example
from clipax import scopes as scopes
from clipax import testing as testing
from clipax import theory as theory
from clipax import thresholds as thresholds
from clipax import transforms as transforms
from clipax._carry_over import CarriedOver as CarriedOver
from clipax._carry_over import carry_over as carry_over
from clipax._metrics import block_names as block_names
from clipax._metrics import metrics as metrics
from clipax.diagnostics import advise as advise
from clipax.measure import global_norm as global_norm
from clipax.optimizers import acclip as acclip
from clipax.optimizers import clip_adagrad as clip_adagrad
from clipax.optimizers import clip_adagrad_norm as clip_adagrad_norm
from clipax.optimizers import clip_adam as clip_adam
from clipax.optimizers import clip_adam_norm as clip_adam_norm
from clipax.optimizers import clip_normalized_momentum as clip_normalized_momentum
from clipax.optimizers import clip_radagrad_norm as clip_radagrad_norm
from clipax.optimizers import clip_sgd as clip_sgd
from clipax.optimizers import clipped_sstm as clipped_sstm
from clipax.optimizers import clipped_sstm_eval_params as clipped_sstm_eval_params
from clipax.optimizers import ggnc as ggnc
from clipax.optimizers import max_ccc_sgd as max_ccc_sgd
from clipax.optimizers import mixed_clip_sgd as mixed_clip_sgd
from clipax.optimizers import momentum_clip_sgd as momentum_clip_sgd
from clipax.optimizers import normalized_momentum as normalized_momentum
from clipax.optimizers import normalized_sgd as normalized_sgd
from clipax.optimizers import quantile_clip_sgd as quantile_clip_sgd
from clipax.optimizers import regularized_clip_sgd as regularized_clip_sgd
from clipax.optimizers import spam as spam
from clipax.optimizers import stable_adamw as stable_adamw
from clipax.optimizers import stable_spam as stable_spam
from clipax.per_example import clipped_grad as clipped_grad
from clipax.per_example import clipped_value_and_grad as clipped_value_and_grad
from clipax.thresholds import power as power_threshold  # noqa: F401
from clipax.transforms import clip_by_block_rms as clip_by_block_rms
from clipax.transforms import clip_by_ema as clip_by_ema
from clipax.transforms import clip_by_global_norm as clip_by_global_norm
from clipax.transforms import clip_by_group_norm as clip_by_group_norm
from clipax.transforms import clip_by_leaf_norm as clip_by_leaf_norm
from clipax.transforms import clip_by_lp_norm as clip_by_lp_norm
from clipax.transforms import clip_by_median as clip_by_median
from clipax.transforms import clip_by_param_norm as clip_by_param_norm
from clipax.transforms import clip_by_percentile as clip_by_percentile
from clipax.transforms import clip_by_quantile as clip_by_quantile
from clipax.transforms import clip_by_regularized_norm as clip_by_regularized_norm
from clipax.transforms import clip_by_singular_values as clip_by_singular_values
from clipax.transforms import clip_by_smooth_norm as clip_by_smooth_norm
from clipax.transforms import clip_by_value as clip_by_value
from clipax.transforms import clip_by_zscore as clip_by_zscore
from clipax.transforms import delay_updates as delay_updates
from clipax.transforms import monitor_norms as monitor_norms
from clipax.transforms import normalize_by_global_norm as normalize_by_global_norm
from clipax.transforms import scale_by_adagrad_norm as scale_by_adagrad_norm
from clipax.transforms import scale_by_adam_norm as scale_by_adam_norm
from clipax.transforms import scale_by_norm as scale_by_norm
from clipax.transforms import skip_nonfinite as skip_nonfinite
from clipax.transforms import skip_spikes as skip_spikes
from clipax.transforms import with_error_feedback as with_error_feedback

from clipax import catalogue as catalogue  # isort: skip  (last: it lists all of the above)

try:
    __version__ = _version("clipax")
except _PackageNotFoundError:  # a source tree on the path, not installed
    __version__ = "0.0.0"


def __dir__() -> list[str]:
    """List the public names; those of private modules are no part of the interface."""
    return [name for name in globals() if not name.startswith("_") or name == "__version__"]


# Type checkers would take any name for one of the module's.
if not TYPE_CHECKING:

    def __getattr__(name):
        """Raise an AttributeError that names what optax's function is called here."""
        from clipax._twins import describe_missing

        raise AttributeError(
            describe_missing(name, [known for known in globals() if known[0] != "_"]), name=name
        )


del TYPE_CHECKING
