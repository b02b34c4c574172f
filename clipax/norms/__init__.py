"""Rules on norms: functions from gradient norms to the factors that scale a gradient.

`clipax.scale_by_norm` lifts them to gradients. They compose with `chain` on the norms alone, so a
chain of any length measures a gradient once and multiplies it once.
"""

from clipax.norms._band import band as band
from clipax.norms._base import Decision as Decision
from clipax.norms._base import NormRule as NormRule
from clipax.norms._chain import chain as chain
from clipax.norms._chain import identity as identity
from clipax.norms._delay import delay as delay
from clipax.norms._max_ccc_clip import max_ccc_clip as max_ccc_clip
from clipax.norms._observe import observe as observe
from clipax.norms._responses import clip as clip
from clipax.norms._responses import normalize as normalize
from clipax.norms._rms_clip import rms_clip as rms_clip
from clipax.norms._stabilize import stabilize as stabilize
from clipax.norms._stepsizes import adagrad_norm as adagrad_norm
from clipax.norms._stepsizes import adam_norm as adam_norm
