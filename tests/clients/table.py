"""The table that ends a run: client, version, what was swapped, verdict."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NamedTuple

__all__ = ["CLIENTS", "Client", "markdown", "rows", "verdicts"]


class Client(NamedTuple):
    """A framework, the package whose version counts, and what of it took clipax's optimizer."""

    name: str
    package: str
    swapped: str


CLIENTS: Mapping[str, Client] = {
    "test_blackjax.py": Client(
        "BlackJAX", "blackjax", "the optimizer of `meanfield_vi` and of `svgd`"
    ),
    "test_diffrax.py": Client(
        "Diffrax", "diffrax", "the optimizer of a neural ODE, in Equinox's loop"
    ),
    "test_equinox.py": Client(
        "Equinox",
        "equinox",
        "the optimizer of a filtered tree; of a whole model, functions among its leaves",
    ),
    "test_flowjax.py": Client("FlowJAX", "flowjax", "the optimizer of `step` and `fit_to_data`"),
    "test_haiku.py": Client("Haiku", "dm-haiku", "the optimizer of a loop by hand"),
    "test_keras.py": Client("Keras", "keras", "the clip of an optimizer, on the JAX backend"),
    "test_linen.py": Client("Flax linen", "flax", "`TrainState.tx`; scanned layers"),
    "test_netket.py": Client(
        "NetKet", "netket", "the optimizer of the driver `VMC`; complex parameters"
    ),
    "test_nnx.py": Client(
        "Flax NNX", "flax", "the `tx` of `nnx.Optimizer`; scanned layers; `wrt` a type of variable"
    ),
    "test_numpyro.py": Client(
        "NumPyro", "numpyro", "the optimizer of `SVI`, through `optax_to_numpyro`"
    ),
    "test_optax_suites.py": Client(
        "optax's own tests", "optax", "the optimizers of `AliasTest` and `ContribTest`"
    ),
    "test_optax_wrappers.py": Client(
        "optax's wrappers", "optax", "the clip inside of each wrapper"
    ),
    "test_ppo.py": Client("PPO in one program", "jax", "`TrainState.tx`, vectorised over seeds"),
}
"""By the file of their tests."""


def verdicts(reports: Iterable[Any]) -> dict[str, str]:
    """What pytest's reports say of each client, by the file of its tests."""
    outcomes: dict[str, dict[str, str]] = {}
    for report in reports:
        path, _, test = report.nodeid.partition("::")
        found = outcomes.setdefault(path.rpartition("/")[2], {})
        # A test passes if setting it up, calling it and clearing up all do.
        if found.get(test) != "failed" and (report.when == "call" or report.outcome != "passed"):
            found[test] = report.outcome
    return {file: _judge(list(found.items())) for file, found in outcomes.items()}


def _judge(found: Sequence[tuple[str, str]]) -> str:
    failed = [test for test, outcome in found if outcome == "failed"]
    skipped = sum(outcome == "skipped" for _, outcome in found)
    if failed:
        return f"fails: {', '.join(failed)}"
    left_out = f", {skipped} left out" if skipped else ""
    return f"passes {len(found) - skipped} tests{left_out}"


def rows(verdicts: Mapping[str, str]) -> list[tuple[str, str, str, str]]:
    """The rows of the clients that were run."""
    return [
        (client.name, _version(client.package), client.swapped, verdicts[file])
        for file, client in CLIENTS.items()
        if file in verdicts
    ]


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def markdown(rows: Iterable[tuple[str, str, str, str]]) -> str:
    """The table as a page shows it."""
    head = ["| client | version | what was swapped | verdict |", "| --- | --- | --- | --- |"]
    return "\n".join([*head, *(f"| {' | '.join(row)} |" for row in rows)])
