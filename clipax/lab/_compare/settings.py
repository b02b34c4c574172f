"""The settings of a comparison, apart from the task and the methods, and their checks."""

from __future__ import annotations

import dataclasses
from typing import Any

import clipax
from clipax.lab._compare.noise import GradientNoise, parse_gradient_noise
from clipax.lab._compare.plan import SELECTION_SEEDS
from clipax.lab._errors import InputError

__all__ = ["QUICK", "Settings", "parse_learning_rates"]

# The defaults under `--quick`.
QUICK: dict[str, Any] = {"steps": 60, "seeds": 4}

# Limits on memory and time.
_MOST = {"steps": 10_000_000, "seeds": 10_000}


@dataclasses.dataclass(frozen=True)
class Settings:
    """Everything but the task and the methods that results depend on.

    Attributes:
      noise: the law of the noise on gradients, as `parse_gradient_noise` reads it.
      noise_scale: its scale s: the noise on a gradient g of d entries is `s ||g|| / sqrt(d) xi`.
      corrupt: the share of corrupt batches.
      steps: the number of updates of a run.
      seeds: the number of seeds that the results are reported over.
      learning_rates: the rates to try for all methods; None for each method's own.

    Raises:
      InputError: if a value is out of range.
    """

    noise: str = "norm:pareto:3"
    noise_scale: float = 0.3
    corrupt: float = 0.01
    steps: int = 400
    seeds: int = 16
    learning_rates: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "noise", str(parse_gradient_noise(self.noise)))
        for name in ("steps", "seeds"):
            value, most = getattr(self, name), _MOST[name]
            if type(value) is not int or not 1 <= value <= most:
                raise InputError(f"{name} must be from 1 to {most:,}, got {value}.")
        if not 0 <= self.corrupt <= 1:
            raise InputError(f"corrupt must be a share from 0 to 1, got {self.corrupt:g}.")
        if self.learning_rates is not None:
            object.__setattr__(self, "learning_rates", tuple(sorted(set(self.learning_rates))))
            if not self.learning_rates:
                raise InputError("learning rates must be at least one number, got none.")
        for name, values in {
            "noise scale": [self.noise_scale],
            "learning rates": self.learning_rates or (),
        }.items():
            for value in values:
                # In float32, in which runs are computed.
                if not 1e-37 <= value <= 1e37:
                    raise InputError(
                        f"{name} must be positive and finite, got {value:g} (in float32)."
                    )

    @property
    def test_seeds(self) -> tuple[int, ...]:
        """Seeds that the results are reported over."""
        first = len(SELECTION_SEEDS)
        return tuple(range(first, first + self.seeds))

    @property
    def gradient_noise(self) -> GradientNoise:
        """The noise as an object."""
        return parse_gradient_noise(self.noise, self.noise_scale)

    def record(self, task: str, fingerprint: str) -> dict[str, Any]:
        """Make the record of the settings that is stored beside results.

        Args:
          task: the task's name.
          fingerprint: the task's, by which another one of that name is noticed.

        Returns:
          A dictionary of JSON values.
        """
        fields = dataclasses.asdict(self)
        if self.learning_rates is not None:
            fields["learning_rates"] = list(self.learning_rates)
        version = clipax.__version__
        return {"task": task, **fields, "task_fingerprint": fingerprint, "clipax": version}


def parse_learning_rates(text: str) -> tuple[float, ...]:
    """Read learning rates from text such as `0.01,0.1,1`.

    Args:
      text: numbers separated by commas.

    Returns:
      The rates, ascending, each once.

    Raises:
      InputError: if there is none or one is not a number.
    """
    words = [word.strip() for word in text.split(",")]
    try:
        return tuple(sorted({float(word) for word in words}))
    except ValueError:
        raise InputError(
            f"learning rates must be numbers separated by commas, got {text!r}."
        ) from None
