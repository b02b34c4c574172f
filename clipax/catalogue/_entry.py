"""The record of one public method."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from clipax.catalogue._papers import PAPERS

__all__ = ["DIES", "FOLLOWS_DOWN", "RECOVERS", "Entry"]

Kind = Literal["threshold", "norm", "transformation", "optimizer"]
RECOVERS = "recovers"
DIES = "dies, by its definition"
FOLLOWS_DOWN = (
    "the average of the clipped norms falls by at most `1 - decay` a step, 350 steps for a "
    "thousandth: a smaller `decay` is faster"
)
"""Of AdaGC: its threshold clips nothing until then, and harms nothing."""


@dataclass(frozen=True)
class Entry:
    """The record of one public method.

    Attributes:
      name: Public name below `clipax`.
      factory: The function that makes the method from arguments.
      kind: `"threshold"`, `"norm"`, `"transformation"` or `"optimizer"`.
      formula: The method in one line.
      papers: Papers of the method, as keys of `PAPERS`; none for a building block.
      example: Arguments with which the factory works.
      static_args: Arguments that `optax.inject_hyperparams` must not trace.
      variants: Names of further methods of the same factory, with the arguments that make them.
      verdict: The expected outcome of the 200 ordinary steps after one huge finite gradient, a
        million times the usual norm or 1e38, as `clipax.testing` measures it: `"recovers"`, or
        `"dies, by its definition"` for a method that remembers unclipped gradients: the stepsize of
        AdaGrad-Norm without a clip, that of Adam-Norm, which forgets in `1/(1 - b2)` steps, the
        momentum of mixed clipping, the direction of normalised momentum without a clip, the
        thresholds of ACClip and Stable-SPAM.
      lasting: Other faults of `clipax.testing` from which the method does not recover within these
        200 steps, each with the part of the formula that wants it so, and what to do about it.
    """

    name: str
    factory: Callable[..., Any]
    kind: Kind
    formula: str
    papers: tuple[str, ...]
    example: Mapping[str, Any]
    static_args: tuple[str, ...] = ()
    variants: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    verdict: str = RECOVERS
    lasting: Mapping[str, str] = field(default_factory=dict)

    @property
    def defaults(self) -> dict[str, Any]:
        """Return the defaults of the factory's arguments, by name."""
        arguments = inspect.signature(self.factory).parameters.values()
        return {arg.name: arg.default for arg in arguments if arg.default is not arg.empty}

    @property
    def summary(self) -> str:
        """Return the first line of the factory's docstring."""
        return (self.factory.__doc__ or "").strip().splitlines()[0]

    @property
    def source(self) -> str:
        """Return the papers as a table quotes them."""
        return "; ".join(str(PAPERS[key]) for key in self.papers) or "building block"
