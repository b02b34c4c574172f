"""Trains a small transformer whose parameters are sharded over devices; saves and resumes.

    python -m benchmarks.examples.train_sharded --devices 8 --steps 6 --save DIR --save-at 3
    python -m benchmarks.examples.train_sharded --devices 4 --steps 6 --resume DIR

The second run goes on from step 3 on half the devices: the clip's memory is in the checkpoint like
everything else. On as many devices as before the numbers are the same bit for bit, on another
number to rounding (1e-5), as sums over devices are then added up in another order.

On several hosts start the same command on each, with its own number; all print the same rows:

    python -m benchmarks.examples.train_sharded --coordinator HOST:PORT --processes 2 --id 0
    python -m benchmarks.examples.train_sharded --coordinator HOST:PORT --processes 2 --id 1

On CPU the devices are virtual, `--devices` of them in each process; on GPU or TPU the first ones
found are taken. Needs `flax` and `orbax-checkpoint`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint
from flax import nnx
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

import clipax

VOCABULARY, LENGTH, BATCH = 32, 16, 16
COLUMNS = ("loss", "grad_norm", "threshold", "clip_factor")


class Block(nnx.Module):
    """Causal attention and a perceptron, each behind a norm and around a shortcut."""

    def __init__(self, width: int, *, rngs: nnx.Rngs):
        self.attention_norm = nnx.LayerNorm(width, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(
            num_heads=2, in_features=width, decode=False, rngs=rngs
        )
        self.mlp_norm = nnx.LayerNorm(width, rngs=rngs)
        self.up = nnx.Linear(width, 4 * width, rngs=rngs)
        self.down = nnx.Linear(4 * width, width, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps (batch, length, width) to the same."""
        mask = nnx.make_causal_mask(x[..., 0])
        x = x + self.attention(self.attention_norm(x), mask=mask)
        return x + self.down(nnx.gelu(self.up(self.mlp_norm(x))))


class Transformer(nnx.Module):
    """A decoder that predicts the next token; devices that divide `width` get equal shards."""

    def __init__(self, width: int, layers: int, *, rngs: nnx.Rngs):
        self.tokens = nnx.Embed(VOCABULARY, width, rngs=rngs)
        self.places = nnx.Embed(LENGTH, width, rngs=rngs)
        self.blocks = nnx.List([Block(width, rngs=rngs) for _ in range(layers)])
        self.norm = nnx.LayerNorm(width, rngs=rngs)

    def __call__(self, tokens: jax.Array) -> jax.Array:
        """Logits of the next token, for (batch, length) tokens."""
        x = self.tokens(tokens) + self.places(jnp.arange(tokens.shape[1]))
        for block in self.blocks:
            x = block(x)
        return self.tokens.attend(self.norm(x))


def batch(step: int) -> np.ndarray:
    """Sequences that follow a rule in nine tokens of ten: the same for a step on every machine."""
    random = np.random.default_rng([7, step])
    tokens = random.integers(VOCABULARY, size=(BATCH, LENGTH + 1))
    for place in range(LENGTH):
        follows = random.random(BATCH) < 0.9
        tokens[follows, place + 1] = (5 * tokens[follows, place] + 3) % VOCABULARY
    return tokens


def shard(leaf: jax.Array, mesh: Mesh) -> NamedSharding:
    """Splits the longest axis that the devices divide; a leaf without one is held by all."""
    fitting = [axis for axis in range(leaf.ndim) if leaf.shape[axis] % mesh.size == 0]
    spec: list[str | None] = [None] * leaf.ndim
    if fitting:
        spec[max(fitting, key=lambda axis: leaf.shape[axis])] = "shards"
    return NamedSharding(mesh, P(*spec))


@nnx.jit
def train_step(model: Transformer, optimizer: nnx.Optimizer, tokens: jax.Array) -> Any:
    """One step; nothing in it says that there is more than one device."""

    def loss_of(model: Transformer) -> jax.Array:
        logits = model(tokens[:, :-1])
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, tokens[:, 1:])
        return losses.mean()

    loss, gradients = nnx.value_and_grad(loss_of)(model)
    optimizer.update(model, gradients)
    return {"loss": loss} | clipax.metrics(optimizer)


def build(width: int, layers: int, mesh: Mesh) -> tuple[Transformer, nnx.Optimizer]:
    """The model, its parameters made on the mesh shard by shard, and its optimizer."""

    def make() -> Transformer:
        return Transformer(width, layers, rngs=nnx.Rngs(0))

    graph, shapes = nnx.split(nnx.eval_shape(make))
    shardings = jax.tree.map(lambda leaf: shard(leaf, mesh), shapes)
    model = nnx.merge(graph, jax.jit(lambda: nnx.state(make()), out_shardings=shardings)())
    # A threshold that follows the norms seen, so that there is something to remember.
    clip = clipax.clip_by_global_norm(clipax.thresholds.quantile(0.1, window=16))
    optimizer = nnx.Optimizer(model, optax.chain(clip, optax.adamw(1e-2)), wrt=nnx.Param)
    # Moments are made from parameters, and lie where these lie. The rest, counters and norms, must
    # lie on all devices too: a checkpoint gives arrays back to the devices it is told of.
    whole = NamedSharding(mesh, P())

    def spread(leaf: jax.Array) -> jax.Array:
        return leaf if len(leaf.devices()) == mesh.size else jax.device_put(leaf, whole)

    nnx.update(optimizer, jax.tree.map(spread, nnx.state(optimizer)))
    return model, optimizer


def largest_share(tree: Any) -> float:
    """The part of a tree's bytes that one device holds at most."""
    held: dict[Any, int] = {}
    leaves = [leaf for leaf in jax.tree.leaves(tree) if leaf.ndim]
    for leaf in leaves:
        for piece in leaf.addressable_shards:
            held[piece.device] = held.get(piece.device, 0) + piece.data.nbytes
    return max(held.values()) / sum(leaf.nbytes for leaf in leaves)


def main(arguments: Sequence[str] | None = None) -> None:
    """Trains, and prints a row for each step and what the clip remembers at the end."""
    parser = _parser()
    options = parser.parse_args(arguments)
    jax.config.update("jax_num_cpu_devices", options.devices)  # of no effect on GPU and TPU
    if options.coordinator:
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        jax.distributed.initialize(options.coordinator, options.processes, options.id)
    count = options.devices * options.processes
    if len(jax.devices()) < count:
        parser.error(f"there are {len(jax.devices())} devices, not {count}")
    devices = jax.devices()[:count]
    mesh = jax.make_mesh((count,), ("shards",), devices=devices, axis_types=(AxisType.Auto,))
    model, optimizer = build(options.width, options.layers, mesh)
    first = 0
    with orbax.checkpoint.StandardCheckpointer() as checkpointer:
        if options.resume:
            # Arrays come back as those of the new model lie: on its devices, in its shards.
            state = nnx.state((model, optimizer))
            like = jax.tree.map(orbax.checkpoint.utils.to_shape_dtype_struct, state)
            nnx.update((model, optimizer), checkpointer.restore(options.resume.resolve(), like))
            first = int(optimizer.step[...])
        print(f"{count} devices in {jax.process_count()} processes, from step {first}")
        print("step " + " ".join(f"{column:>13}" for column in COLUMNS))
        for step in range(first, options.steps):
            # Each process puts its own rows on its devices.
            tokens = jax.make_array_from_callback(
                (BATCH, LENGTH + 1), NamedSharding(mesh, P("shards")), batch(step).__getitem__
            )
            seen = train_step(model, optimizer, tokens)
            print(f"{step + 1:4d} " + " ".join(f"{seen[column]:13.9g}" for column in COLUMNS))
            if options.save and step + 1 == (options.save_at or options.steps):
                checkpointer.save(options.save.resolve(), nnx.state((model, optimizer)))
    shares = largest_share(nnx.state(model)), largest_share(nnx.state(optimizer))
    print("held by one device: parameters {:.3f}, optimizer {:.3f}".format(*shares))
    remembered = jax.tree.leaves(nnx.state(optimizer)["opt_state"][0])
    values = np.concatenate([np.ravel(np.asarray(leaf, "float64")) for leaf in remembered])
    print("memory of the clip: " + " ".join(f"{value:.9g}" for value in values))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.examples.train_sharded",
        description=(__doc__ or "").splitlines()[0],
    )
    for name, default, about in (
        ("devices", 8, "of each process"),
        ("steps", 6, "the last step"),
        ("width", 64, "entries of a token's vector"),
        ("layers", 2, "of the transformer"),
        ("processes", 1, "on all hosts"),
        ("id", 0, "number of this process"),
    ):
        parser.add_argument(
            f"--{name}", type=int, default=default, help=f"{about} (default {default})"
        )
    parser.add_argument("--coordinator", metavar="HOST:PORT", help="where process 0 listens")
    parser.add_argument("--save", type=Path, metavar="DIR", help="write a checkpoint")
    parser.add_argument("--save-at", type=int, metavar="STEP", help="default: the last")
    parser.add_argument("--resume", type=Path, metavar="DIR", help="go on from a checkpoint")
    return parser


if __name__ == "__main__":
    main()
