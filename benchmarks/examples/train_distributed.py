"""Trains a small network in several processes, each with devices and examples of its own.

On every host the same command but for the number (`--id 0` on the host of the coordinator):

    python -m benchmarks.examples.train_distributed --coordinator HOST:PORT --processes 2 --id 0
    python -m benchmarks.examples.train_distributed --coordinator HOST:PORT --processes 2 --id 1

Parameters and data are sharded over all devices of all hosts. Every process prints the same rows,
those of one process with as many devices (`--processes 1 --devices 4`).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import clipax

INPUTS, HIDDEN, BATCH = 16, 32, 32
SPECS = {"first": P(None, "data"), "bias": P("data"), "last": P("data")}


def parameters() -> dict[str, np.ndarray]:
    """The same on every host."""
    random = np.random.default_rng(0)
    shapes = {"first": (INPUTS, HIDDEN), "bias": (HIDDEN,), "last": (HIDDEN,)}
    return {name: random.normal(0, 0.3, size).astype("float32") for name, size in shapes.items()}


def examples(step: int) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and targets with heavy-tailed errors, so that the clip has something to do."""
    random = np.random.default_rng([1, step])
    x = random.standard_normal((BATCH, INPUTS)).astype("float32")
    return x, (np.sin(x.sum(1)) + random.standard_t(1.5, BATCH)).astype("float32")


def loss_of(params: Any, x: jax.Array, y: jax.Array) -> jax.Array:
    """Mean squared error of the network."""
    hidden = jnp.tanh(x @ params["first"] + params["bias"])
    return jnp.mean(jnp.square(hidden @ params["last"] - y))


def main(arguments: Sequence[str] | None = None) -> None:
    """Trains, and prints a row for each step and what the clip remembers at the end."""
    parser = _parser()
    options = parser.parse_args(arguments)
    jax.config.update("jax_num_cpu_devices", options.devices)  # of no effect on GPU and TPU
    if options.processes > 1:
        if options.coordinator is None:
            parser.error("--coordinator is needed for more than one process")
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        jax.distributed.initialize(options.coordinator, options.processes, options.id)
    train(options.steps)


def train(steps: int) -> None:
    """Trains on all devices of all processes."""
    mesh = jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))
    sharded = {name: NamedSharding(mesh, spec) for name, spec in SPECS.items()}
    whole, rows = NamedSharding(mesh, P()), NamedSharding(mesh, P("data"))
    # A threshold that follows the norms seen: all hosts must remember the same.
    threshold = clipax.thresholds.quantile(0.1, window=16)
    tx = optax.chain(clipax.clip_by_global_norm(threshold), optax.adam(1e-2))
    # Each process puts its own shards on its devices.
    params = {
        name: jax.make_array_from_callback(value.shape, sharded[name], value.__getitem__)
        for name, value in parameters().items()
    }
    state = jax.jit(tx.init)(params)

    @partial(jax.jit, donate_argnums=(0, 1))
    def step(params: Any, state: Any, x: jax.Array, y: jax.Array) -> Any:
        loss, gradients = jax.value_and_grad(loss_of)(params, x, y)
        updates, state = tx.update(gradients, state, params)
        params = jax.lax.with_sharding_constraint(optax.apply_updates(params, updates), sharded)
        seen = jax.lax.with_sharding_constraint({"loss": loss} | clipax.metrics(state), whole)
        return params, state, seen

    columns = ("loss", "grad_norm", "threshold", "clip_factor")
    print(f"{jax.device_count()} devices in {jax.process_count()} processes")
    print("step " + " ".join(f"{column:>13}" for column in columns))
    for number in range(steps):
        mine = [_rows_of_this_process(part) for part in examples(number)]
        x, y = (jax.make_array_from_process_local_data(rows, part) for part in mine)
        params, state, seen = step(params, state, x, y)
        # Replicated numbers, which every process may read.
        print(f"{number + 1:4d} " + " ".join(f"{seen[column]:13.9g}" for column in columns))
    remembered = jax.tree.leaves(jax.jit(lambda clip: clip, out_shardings=whole)(state[0]))
    values = np.concatenate([np.ravel(np.asarray(leaf, "float64")) for leaf in remembered])
    print("memory of the clip: " + " ".join(f"{value:.9g}" for value in values))


def _rows_of_this_process(array: np.ndarray) -> np.ndarray:
    """What a process would read from its own disk."""
    return np.split(array, jax.process_count())[jax.process_index()]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.examples.train_distributed",
        description=(__doc__ or "").splitlines()[0],
    )
    parser.add_argument("--coordinator", metavar="HOST:PORT", help="where process 0 listens")
    parser.add_argument("--processes", type=int, default=1, help="default 1")
    parser.add_argument("--id", type=int, default=0, help="number of this process (default 0)")
    parser.add_argument("--devices", type=int, default=2, help="virtual ones of a CPU (default 2)")
    parser.add_argument("--steps", type=int, default=6, help="default 6")
    return parser


if __name__ == "__main__":
    main()
