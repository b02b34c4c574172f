"""Full optimizers: chains of `clipax.transforms` and optax; one file a method."""

from clipax.optimizers._acclip import acclip as acclip
from clipax.optimizers._clip_adam import clip_adagrad as clip_adagrad
from clipax.optimizers._clip_adam import clip_adam as clip_adam
from clipax.optimizers._clip_adam_norm import clip_adagrad_norm as clip_adagrad_norm
from clipax.optimizers._clip_adam_norm import clip_adam_norm as clip_adam_norm
from clipax.optimizers._clip_adam_norm import clip_radagrad_norm as clip_radagrad_norm
from clipax.optimizers._clip_sgd import clip_sgd as clip_sgd
from clipax.optimizers._clip_sgd import max_ccc_sgd as max_ccc_sgd
from clipax.optimizers._clip_sgd import normalized_sgd as normalized_sgd
from clipax.optimizers._clip_sgd import quantile_clip_sgd as quantile_clip_sgd
from clipax.optimizers._clip_sgd import regularized_clip_sgd as regularized_clip_sgd
from clipax.optimizers._clipped_sstm import clipped_sstm as clipped_sstm
from clipax.optimizers._clipped_sstm import clipped_sstm_eval_params as clipped_sstm_eval_params
from clipax.optimizers._ggnc import ggnc as ggnc
from clipax.optimizers._mixed_clip_sgd import mixed_clip_sgd as mixed_clip_sgd
from clipax.optimizers._mixed_clip_sgd import momentum_clip_sgd as momentum_clip_sgd
from clipax.optimizers._normalized_momentum import (
    clip_normalized_momentum as clip_normalized_momentum,
)
from clipax.optimizers._normalized_momentum import normalized_momentum as normalized_momentum
from clipax.optimizers._spam import spam as spam
from clipax.optimizers._stable_adamw import stable_adamw as stable_adamw
from clipax.optimizers._stable_spam import stable_spam as stable_spam
