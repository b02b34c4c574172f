"""Reads a compiled program: what it moves, reduces and allocates in an ordinary step.

XLA's own `cost_analysis()["bytes accessed"]` adds up every computation of the program, the branches
of a `lax.cond` included, whether they are taken or not. Here the optimized program's text is read
instead: the entry computation's instructions (and what they call) count, a conditional's branches
do not, a loop counts as often as it runs where the program says how often. What lies in a TPU's
memory on the chip is no traffic.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

_ARRAY = re.compile(r"\b([a-z]+\d\w*|pred)\[([\d,<=]*)\](\{[^}]*\})?")
_HEADER = re.compile(r"^(ENTRY\s+)?%?([\w.\-]+)\s*\(.*->.*\{$")
_LINE = re.compile(r"^\s+(ROOT\s+)?%?([\w.\-]+)\s+=\s+(.*)$")
_NAME = re.compile(r"%?([\w.\-]+)$")
_CALLEE = re.compile(r"\b(?:calls|to_apply|body|called_computations)=\{?%?([\w.\-]+)")

# Instructions that only name memory, and the second halves of asynchronous pairs.
_FREE = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "opt-barrier"}
_FREE |= {"after-all"}
COLLECTIVES = {"all-gather", "all-reduce", "all-to-all", "collective-broadcast"}
COLLECTIVES |= {"collective-permute", "ragged-all-to-all", "reduce-scatter"}
_INDEX = re.compile(r"\bindex=(\d+)")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
_TARGET = re.compile(r'\bcustom_call_target="([^"]*)"')
# Calls that only name memory, or tell the compiler something.
_NAMES = {"AllocateBuffer", "AssumeGatherIndicesInBound", "ConcatBitcast", "Sharding"}
# A TPU's VMEM, SMEM and semaphores: `f32[8]{0:T(128)S(1)}`.
_ON_CHIP = re.compile(r"S\([126]\)")
# Halves of a transfer between the chip and HBM.
_TRANSFERS = {"copy-start", "slice-start"}
_SLICES, _UPDATE = {"dynamic-slice", "slice"}, "dynamic-update-slice"


@dataclass(frozen=True)
class Instruction:
    """One instruction of a computation."""

    name: str
    opcode: str
    shape: str
    operands: tuple[str, ...]
    callee: str | None
    is_root: bool
    index: int | None = None
    trips: int | None = None
    target: str | None = None


Computation = dict[str, Instruction]


@dataclass(frozen=True)
class Program:
    """What an ordinary run of a compiled program does, its conditional branches apart.

    Bytes accessed are by XLA's convention: each instruction reads its operands and writes its
    result, caches are not considered. Temporaries are bytes allocated beside arguments and results,
    branches included. A collective is one whatever its operands, its scalars are their entries.
    Kernels are what a GPU launches, one after the other; on a TPU they are instructions, transfers
    left out. A loop whose length is not known is open: like a conditional, it makes the host of a
    GPU wait for the device.
    """

    bytes_accessed: int
    temporaries: int
    reductions: int
    conditionals: int
    collectives: int
    scalars: int
    kernels: int
    open_loops: int


def count(compiled: Any, *, large: int = 2) -> Program:
    """Counts what a compiled program does outside of conditional branches.

    Reductions count from `large` entries on.
    """
    computations, entry = parse(compiled.as_text())
    reached = list(_reached(computations, entry))
    collectives = [
        sum(_shape_entries(computations[name][of].shape) for of in one.operands)
        for name, one in reached
        if one.opcode.removesuffix("-start") in COLLECTIVES
    ]
    return Program(
        bytes_accessed=_computation_bytes(computations, entry),
        temporaries=int(compiled.memory_analysis().temp_size_in_bytes),
        reductions=sum(_is_reduction(computations[name], one, large) for name, one in reached),
        conditionals=sum(one.opcode == "conditional" for _, one in reached),
        collectives=len(collectives),
        scalars=sum(collectives),
        kernels=_count_kernels(computations, entry),
        open_loops=sum(one.opcode == "while" and one.trips is None for _, one in reached),
    )


def parse(text: str) -> tuple[dict[str, Computation], str]:
    """Parses `compiled.as_text()` into the computations by name, and the name of the entry."""
    computations: dict[str, Computation] = {}
    entry = ""
    current: Computation | None = None
    for raw in text.splitlines():
        line = re.sub(r"/\*.*?\*/", "", raw)
        if header := _HEADER.match(line):
            current = computations.setdefault(header[2], {})
            entry = header[2] if header[1] else entry
        elif line.startswith("}"):
            current = None
        elif current is not None and (found := _LINE.match(line)):
            current[found[2]] = _instruction(found[2], found[3], bool(found[1]))
    if not entry:
        raise ValueError("The text holds no entry computation.")
    return computations, entry


def shape_bytes(shape: str) -> int:
    """Bytes of a shape as the text writes it, `f32[8,4]{1,0}` or a tuple of such."""
    return sum(_array_bytes(dtype, dims) for dtype, dims, _ in _ARRAY.findall(shape))


def _main_bytes(shape: str) -> int:
    """Those that lie in the device's main memory, not on the chip."""
    arrays = (one for one in _ARRAY.findall(shape) if not _ON_CHIP.search(one[2]))
    return sum(_array_bytes(dtype, dims) for dtype, dims, _ in arrays)


def tree_bytes(tree: Any) -> int:
    """Bytes of all arrays of a pytree: P, the unit of traffic, for a tree of parameters."""
    import jax

    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def _array_bytes(dtype: str, dims: str) -> int:
    bits = 8 if dtype == "pred" else int(re.findall(r"\d+", dtype)[0])
    return (_entries(dims) * bits + 7) // 8


def _entries(dims: str) -> int:
    return prod(int(dim.lstrip("<=")) for dim in dims.split(",") if dim)


def _shape_entries(shape: str) -> int:
    return sum(_entries(dims) for _, dims, _ in _ARRAY.findall(shape))


def _closing(text: str) -> int:
    """The position after the parenthesis that closes the one at the start."""
    depth = 0
    for place, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if depth == 0:
            return place + 1
    raise ValueError(f"Unbalanced parentheses in {text[:80]!r}.")


def _instruction(name: str, text: str, is_root: bool) -> Instruction:
    end = _closing(text) if text.startswith("(") else text.index(" ")
    shape, rest = text[:end], text[end:].lstrip()
    opcode = rest[: rest.index("(")]
    rest = rest[len(opcode) :]
    end = _closing(rest)
    inner, attributes = rest[1 : end - 1], rest[end:]
    operands = () if opcode in ("constant", "parameter") else tuple(_operands(inner))
    if opcode == "parameter":
        operands = (inner,)  # its number
    callee, index = _CALLEE.search(attributes), _INDEX.search(attributes)
    trips, target = _TRIPS.search(attributes), _TARGET.search(attributes)
    return Instruction(
        name,
        opcode,
        shape,
        operands,
        callee[1] if callee else None,
        is_root,
        int(index[1]) if index else None,
        int(trips[1]) if trips else None,
        target[1] if target else None,
    )


def _operands(text: str) -> Iterator[str]:
    """Names of operands, which some versions write after their shapes."""
    depth = start = 0
    for place, character in enumerate(text + ","):
        depth += (character in "([{") - (character in ")]}")
        if character == "," and depth == 0:
            if found := _NAME.search(text[start:place].strip()):
                yield found[1]
            start = place + 1


def _reached(computations: dict[str, Computation], name: str) -> Iterator[tuple[str, Instruction]]:
    """Instructions that run, with the computation they stand in; branches and reducers apart."""
    for one in computations[name].values():
        yield name, one
        if one.callee in computations and one.opcode in ("fusion", "call", "while", "async-start"):
            yield from _reached(computations, one.callee)


def _is_reduction(here: Computation, one: Instruction, large: int) -> bool:
    operand = here.get(one.operands[0]) if one.opcode in ("reduce", "reduce-window") else None
    return operand is not None and _shape_entries(operand.shape) >= large


def _count_kernels(computations: dict[str, Computation], name: str) -> int:
    total = 0
    for one in computations[name].values():
        if _calls(computations, one):
            total += (one.trips or 1) * _count_kernels(computations, str(one.callee))
        elif not (_is_free(one) or one.opcode in _TRANSFERS or one.target in _NAMES):
            total += 1
    return total


def _calls(computations: dict[str, Computation], one: Instruction) -> bool:
    """Whether it runs the instructions of another computation one by one."""
    return one.opcode in ("call", "while", "async-start") and one.callee in computations


def _is_free(one: Instruction) -> bool:
    return one.opcode in _FREE or one.opcode == "conditional" or one.opcode.endswith("-done")


def _computation_bytes(computations: dict[str, Computation], name: str) -> int:
    computation = computations[name]
    return sum(_bytes(computations, computation, one) for one in computation.values())


def _bytes(computations: dict[str, Computation], here: Computation, one: Instruction) -> int:
    if _is_free(one):
        return 0
    if _calls(computations, one):  # an open loop: one trip
        return (one.trips or 1) * _computation_bytes(computations, str(one.callee))
    if one.opcode in _TRANSFERS:  # what lands: the whole, or a slice of the first array
        landed = list(_ARRAY.finditer(one.shape))[one.opcode == "slice-start"][0]
        sides = bool(_main_bytes(here[one.operands[0]].shape)) + bool(_main_bytes(landed))
        return sides * shape_bytes(landed)
    reads = {name: _main_bytes(here[name].shape) for name in one.operands if name in here}
    writes = _main_bytes(one.shape)
    if one.target in _NAMES:
        return 0
    if one.opcode in _SLICES:
        return min(shape_bytes(one.shape), sum(reads.values())) + writes
    if one.opcode == _UPDATE:
        return 2 * reads[one.operands[1]]
    if one.opcode == "fusion" and one.callee in computations:
        return _fusion_bytes(computations[one.callee], one, reads, writes)
    return sum(reads.values()) + writes


def _fusion_bytes(
    inside: Computation, fusion: Instruction, reads: dict[str, int], writes: int
) -> int:
    """A fusion reads of an operand only the slices it takes, and writes in place where it can."""
    total = 0
    for parameter in inside.values():
        if parameter.opcode != "parameter":
            continue
        users = [one for one in inside.values() if parameter.name in one.operands]
        whole = reads.get(fusion.operands[int(parameter.operands[0])], 0)
        if users and all(one.opcode in _SLICES for one in users):
            total += min(whole, sum(shape_bytes(one.shape) for one in users))
        elif [(one.opcode, one.operands[0]) for one in users] == [(_UPDATE, parameter.name)]:
            update = shape_bytes(inside[users[0].operands[1]].shape)
            if whole:  # neither it nor the result lies on the chip
                writes -= shape_bytes(users[0].shape) - update
        else:
            total += whole
    return total + writes
