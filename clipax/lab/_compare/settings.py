"""The settings of a comparison, apart from the methods, and their checks."""

from __future__ import annotations

import dataclasses
from typing import Any

import clipax
from clipax.lab._errors import InputError
from clipax.lab.noise import parse_noise

__all__ = ["QUICK", "SELECTION_SEEDS", "Settings", "parse_learning_rates"]

# Seeds that choose the learning rates; the seeds of the results follow them.
SELECTION_SEEDS = (0, 1, 2, 3)

# The defaults under `--quick`.
QUICK: dict[str, Any] = {"steps": 60, "seeds": 4}

# Limits on memory and time.
_MOST = {"steps": 10_000_000, "batch_size": 100_000, "seeds": 10_000}


@dataclasses.dataclass(frozen=True)
class Settings:
    """Everything that a method's result depends on, so that equal settings mean equal results.

    Attributes:
      data: `digits`, `breast-cancer`, `wine`, or the path of an `.npz` file.
      model: `mlp` or `cnn`.
      noise: the law of the gradient noise, as `parse_noise` reads it.
      noise_scale: the noise added is `noise_scale * ||g|| / sqrt(d) * xi`.
      threshold: the threshold of the methods that take one. Under the default noise, norms lie on
        both sides of the default.
      steps: the number of updates of a run.
      batch_size: the number of examples in a batch.
      seeds: the number of seeds that the results are reported over.
      learning_rates: the rates to try for all methods; None for each method's own grid.

    Raises:
      InputError: if a value is out of range.
    """

    data: str = "digits"
    model: str = "mlp"
    noise: str = "pareto:1.5"
    noise_scale: float = 1.0
    threshold: float = 5.0
    steps: int = 600
    batch_size: int = 32
    seeds: int = 8
    learning_rates: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "noise", str(parse_noise(self.noise)))
        for name in ("steps", "batch_size", "seeds"):
            value, most = getattr(self, name), _MOST[name]
            if not 1 <= value <= most:
                raise InputError(f"{_option(name)} must be from 1 to {most:,}, got {value}.")
        numbers = {_option(name): [getattr(self, name)] for name in ("noise_scale", "threshold")}
        numbers["learning rates"] = list(self.learning_rates or ())
        for name, values in numbers.items():
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

    def record(self, fingerprint: str) -> dict[str, Any]:
        """Make the record of the settings that is stored beside results.

        Args:
          fingerprint: the data's, by which a changed file is noticed.

        Returns:
          A dictionary of JSON values.
        """
        fields = dataclasses.asdict(self)
        if self.learning_rates is not None:
            fields["learning_rates"] = list(self.learning_rates)
        return {**fields, "data_fingerprint": fingerprint, "clipax": clipax.__version__}


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


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
            f"--learning-rates must be numbers separated by commas, got {text!r}."
        ) from None
