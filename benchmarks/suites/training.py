"""Counts what a clip adds to a whole training step of a transformer, compiled for TPU and GPU."""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import lax

import clipax
from benchmarks.harness import hlo, records, targets, trees
from benchmarks.harness.compile import DTYPES
from benchmarks.harness.records import Column, Finding, Row
from benchmarks.harness.suite import Suite
from benchmarks.harness.suite import count as whole

WIDTH, HEADS, WORDS = 1024, 16, 16_384
BATCH, LENGTH, ACCUMULATED = 8, 512, 4
RATE = 1e-3
UNCLIPPED, OPTAX, CLIPAX = "unclipped", "optax", "clipax"
SLACK = 0.02

CLIPS: Mapping[str, Mapping[str, Any]] = {
    "global norm": {
        OPTAX: optax.clip_by_global_norm(1.0),
        CLIPAX: clipax.clip_by_global_norm(1.0),
    },
    "leaf": {OPTAX: optax.clip_by_block_rms(1.0), CLIPAX: clipax.clip_by_leaf_norm(1.0)},
    "AGC": {OPTAX: optax.adaptive_grad_clip(0.5), CLIPAX: clipax.clip_by_param_norm(0.5)},
}


def describe_params(layers: int, dtype: str) -> Any:
    """Describes a decoder's parameters: of 4 layers 39 leaves, 101M entries."""
    shapes = trees.decoder(layers, WIDTH, 4 * WIDTH, WIDTH, words=WORDS)
    return jax.tree.map(
        lambda shape: jax.ShapeDtypeStruct(shape, DTYPES[dtype]),
        shapes,
        is_leaf=lambda node: isinstance(node, tuple),
    )


def measure_loss(params: Any, tokens: jax.Array) -> jax.Array:
    """Cross-entropy of the next token, as a decoder with causal attention predicts it."""
    hidden = params["tokens"][tokens[:, :-1]]
    for layer in (params[name] for name in params if name.startswith("layer")):
        hidden += attend(layer, _normalize(hidden, layer["attention_norm"]))
        inside = _normalize(hidden, layer["mlp_norm"])
        hidden += (jax.nn.silu(inside @ layer["gate"]) * (inside @ layer["up"])) @ layer["down"]
    logits = (_normalize(hidden, params["norm"]) @ params["head"]).astype(jnp.float32)
    return optax.softmax_cross_entropy_with_integer_labels(logits, tokens[:, 1:]).mean()


def _normalize(x: jax.Array, scale: jax.Array) -> jax.Array:
    wide = x.astype(jnp.float32)
    mean_square = jnp.mean(jnp.square(wide), axis=-1, keepdims=True)
    return (wide * lax.rsqrt(mean_square + 1e-6)).astype(x.dtype) * scale


def attend(layer: Any, x: jax.Array) -> jax.Array:
    """Causal attention of a layer."""
    batch, length, width = x.shape
    query, key, value = (
        (x @ layer[name]).reshape(batch, length, HEADS, -1) for name in ("query", "key", "value")
    )
    scores = jnp.einsum("bqhd,bkhd->bhqk", query, key) / (width // HEADS) ** 0.5
    seen = jnp.tril(jnp.ones((length, length), bool))
    weights = jax.nn.softmax(jnp.where(seen, scores.astype(jnp.float32), -1e30), axis=-1)
    mixed = jnp.einsum("bhqk,bkhd->bqhd", weights.astype(x.dtype), value)
    return mixed.reshape(batch, length, width) @ layer["out"]


def make_step(optimizer: Any, *, scan: bool = False) -> Callable[..., Any]:
    """Makes a training step: loss, gradient, update; with `scan` the mean gradient of batches."""

    def step(params: Any, state: Any, tokens: jax.Array) -> tuple[Any, Any, jax.Array]:
        differentiate = jax.value_and_grad(measure_loss)
        if scan:

            def add(total: Any, some: jax.Array) -> tuple[Any, None]:
                return jax.tree.map(jnp.add, total, differentiate(params, some)), None

            zeros = jnp.zeros(()), jax.tree.map(jnp.zeros_like, params)
            total, _ = lax.scan(add, zeros, tokens.reshape(ACCUMULATED, -1, tokens.shape[1]))
            loss, grads = jax.tree.map(lambda leaf: leaf / ACCUMULATED, total)
        else:
            loss, grads = differentiate(params, tokens)
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state, loss

    return step


def _train(clip: Any) -> Any:
    return optax.chain(clip, optax.adam(RATE)) if clip else optax.adam(RATE)


FORMS: Mapping[str, Callable[[Any], tuple[Any, bool]]] = {
    "step": lambda clip: (_train(clip), False),
    "MultiSteps": lambda clip: (optax.MultiSteps(_train(clip), ACCUMULATED), False),
    "scan": lambda clip: (_train(clip), True),
}
"""The optimizer around a clip, and whether gradients are accumulated in a loop."""


def measure(options: argparse.Namespace) -> Iterator[list[Row]]:
    """Compiles form after form."""
    for form, dtype in itertools.product(options.forms, options.dtypes):
        rows = []
        count = partial(count_step, options.target, form, options.layers, dtype)
        bare = count(None)
        for clip in options.clips:
            for program, made in {UNCLIPPED: None, **CLIPS[clip]}.items():
                print(f"{form} {dtype} {clip} {program} ...", file=sys.stderr, flush=True)
                found = count(made) if made else bare
                row: Row = {"form": form, "layers": options.layers, "dtype": dtype}
                row |= {"clip": clip, "program": program, **found}
                row |= {f"added {name}": round(found[name] - bare[name], 4) for name in ADDED}
                rows.append(row)
        yield rows


ADDED = ("kernels", "traffic", "temporaries")


def count_step(target: str, form: str, layers: int, dtype: str, clip: Any) -> dict[str, float]:
    """Compiles a training step and counts; memory in units of the parameters' bytes."""
    optimizer, scan = FORMS[form](clip)
    mesh = targets.make_mesh(targets.find_devices(target)[:1], {"device": 1})
    params = targets.place(describe_params(layers, dtype), mesh)
    state = targets.place(jax.eval_shape(optimizer.init, params), mesh)
    tokens = targets.place(jax.ShapeDtypeStruct((BATCH, LENGTH + 1), jnp.int32), mesh)
    step = make_step(optimizer, scan=scan)
    compiled = targets.compile(step, params, state, tokens, donate_argnums=(0, 1))
    found, size = hlo.count(compiled.program), hlo.tree_bytes(params)
    return {
        "kernels": found.kernels,
        "waits": found.conditionals + found.open_loops,
        "traffic": round(found.bytes_accessed / size, 3),
        "temporaries": round(found.temporaries / size, 4),
        "seconds": round(compiled.seconds, 1),
    }


def judge(rows: Sequence[Row], device: str) -> Iterator[Finding]:
    """Judges that a clip adds no more than optax's."""
    for where, some in records.group(rows, ("form", "dtype", "clip")):
        here = {row["program"]: row for row in some}
        ours, theirs = here[CLIPAX], here[OPTAX]
        yield records.judge("waits", where, ours["waits"], theirs["waits"])
        for name, slack in (("traffic", SLACK), ("temporaries", SLACK)):
            yield records.judge(f"{name}, P", where, ours[name], theirs[name] + slack)
        if device.startswith("gpu"):
            yield records.judge("kernels", where, ours["kernels"], theirs["kernels"])


def add_options(add: Any) -> None:
    """Adds the command's options."""
    add("--target", choices=targets.PACKAGES, help="what to compile for; needed")
    about = "of the decoder, default 4; a TPU's compiler takes a second for each product in them"
    add("--layers", type=whole, default=4, help=about)
    add("--forms", nargs="+", choices=FORMS, default=[*FORMS])
    add("--clips", nargs="+", choices=CLIPS, default=[*CLIPS])
    add("--dtypes", nargs="+", choices=DTYPES, default=[*DTYPES])


SUITE = Suite(
    "what a clip adds to a whole training step",
    ("form", "layers", "dtype"),
    (
        Column("clip", "clip"),
        Column("program", "program"),
        Column("kernels", "kernels"),
        Column("added", "added kernels"),
        Column("waits", "waits"),
        Column("traffic P", "traffic", "{:.2f}"),
        Column("added", "added traffic", "{:.2f}"),
        Column("temp. P", "temporaries", "{:.3f}"),
        Column("added", "added temporaries", "{:.3f}"),
        Column("compile s", "seconds", "{:.1f}"),
    ),
    measure,
    judge,
    add_options,
    prepare=lambda options: targets.prepare(options.target),
    apart="clip",
)
