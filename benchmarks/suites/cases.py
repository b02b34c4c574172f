"""The programs under test: for each method the unclipped optimizer, the equivalent, and clipax."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import optax
from optax import GradientTransformation as Transformation

import clipax
from benchmarks.suites import faults, reference
from clipax import norms, thresholds
from clipax.catalogue import ENTRIES

RATE = 1e-3

# Roles of the programs that most cases have; others are the case's own.
BARE, PEER, CLIPAX = "unclipped", "peer", "clipax"
TWIN = "clipax, again"
"""The same program in memory of its own: the control."""
ZEROS = "clipax zero leaves"


class Case(NamedTuple):
    """Programs that are timed in turn on the same tree.

    Attributes:
      summary: What is compared.
      peer: What the program with the role `"peer"` is: optax's equivalent, or the plain reference.
      programs: Optimizers by role; the first is the one without clipping.
      least: What the unclipped step must read and write at least, in P; None where it is not asked.
      usual: Whether it runs unless others are asked for.
    """

    summary: str
    peer: str
    programs: Mapping[str, Transformation]
    least: int | None = None
    usual: bool = True


SGD, ADAM = optax.sgd(RATE), optax.adam(RATE)
OPTAX, CLIP = optax.clip_by_global_norm(1.0), clipax.clip_by_global_norm(1.0)


def _before(optimizer: Transformation, **methods: Transformation) -> dict[str, Transformation]:
    """The optimizer alone, and behind each of the methods."""
    return {BARE: optimizer} | {
        name.replace("_", " "): optax.chain(one, optimizer) for name, one in methods.items()
    }


def _leaf(threshold: Any) -> Transformation:
    return clipax.scale_by_norm(norms.clip(threshold), scope="leaf")


def _list_methods() -> dict[str, Transformation]:
    """Every method of the catalogue, optimizers alone, and what optax has to be put in front."""
    made = {BARE: SGD}
    for name, make in faults.subjects().items():
        library, method = name.split("/", 1)
        if library == "clipax" and ENTRIES[method].kind == "optimizer":
            made[name] = make()
        elif library == "clipax" or re.match(r"(clip|adaptive_grad_clip|normalize)[^,]*$", method):
            made[name] = optax.chain(make(), SGD)
    return made


CASES: dict[str, Case] = {
    "sgd": Case(
        "clip by global norm, then SGD",
        "optax.clip_by_global_norm",
        _before(SGD, peer=OPTAX, clipax=CLIP),
        least=3,
    ),
    "adam": Case(
        "clip by global norm, then Adam",
        "optax.clip_by_global_norm",
        _before(ADAM, peer=OPTAX, clipax=CLIP),
        least=7,
    ),
    "adagrad-norm": Case(
        "clip, then AdaGrad-Norm, then SGD",
        "the two as ordinary transformations",
        _before(
            SGD,
            peer=optax.chain(
                reference.clip_by_global_norm(1.0), reference.scale_by_adagrad_norm(1.0)
            ),
            clipax=clipax.scale_by_norm(norms.clip(1.0), after=norms.adagrad_norm(1.0)),
        ),
    ),
    "guard": Case(
        "what the overflow guard and the telemetry cost, clip then SGD",
        "the clip without either",
        _before(SGD, peer=reference.lean_clip(1.0), clipax=CLIP, clipax_zero_leaves=CLIP),
    ),
    "leaf-norm": Case(
        "clip each leaf by its own norm, then SGD",
        "optax.clip_by_block_rms",
        _before(SGD, peer=optax.clip_by_block_rms(1e-3), clipax=clipax.clip_by_leaf_norm(1.0)),
    ),
    "agc": Case(
        "clip each unit relative to its parameters (AGC), then SGD",
        "optax.adaptive_grad_clip",
        _before(SGD, peer=optax.adaptive_grad_clip(0.01), clipax=clipax.clip_by_param_norm(0.01)),
    ),
    # The rest is asked for by name, see `command.PRESETS`.
    "methods": Case(
        "every method, an optimizer alone, all else then SGD", "none", _list_methods(), usual=False
    ),
    "scopes": Case(
        "a clip of every leaf, then SGD; clipax: of the global norm",
        "optax.clip_by_global_norm",
        _before(
            SGD,
            peer=OPTAX,
            clipax=CLIP,
            leaf_constant=clipax.clip_by_leaf_norm(1.0),
            leaf_schedule=_leaf(thresholds.power(1.0, 1.5)),
            leaf_per_entry=_leaf(thresholds.block_rms(1.0)),
            leaf_relative=_leaf(thresholds.relative(0.01)),
        ),
        usual=False,
    ),
}
