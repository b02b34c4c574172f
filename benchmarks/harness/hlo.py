"""Reads a compiled program: what it moves, reduces and allocates in an ordinary step.

XLA's own `cost_analysis()["bytes accessed"]` adds up every computation of the program, the branches
of a `lax.cond` included, whether they are taken or not. Here the optimized program's text is read
instead: the entry computation's instructions (and what they call) count, a conditional's branches
do not.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

_ARRAY = re.compile(r"\b([a-z]+\d\w*|pred)\[([\d,<=]*)\]")
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


Computation = dict[str, Instruction]


@dataclass(frozen=True)
class Program:
    """What an ordinary run of a compiled program does, its conditional branches apart.

    Bytes accessed are by XLA's convention: each instruction reads its operands and writes its
    result, caches are not considered. Temporaries are bytes allocated beside arguments and results,
    branches included. A collective is one whatever its operands.
    """

    bytes_accessed: int
    temporaries: int
    reductions: int
    conditionals: int
    collectives: int


def count(compiled: Any, *, large: int = 2) -> Program:
    """Counts what a compiled program does outside of conditional branches.

    Reductions count from `large` entries on.
    """
    computations, entry = parse(compiled.as_text())
    reached = list(_reached(computations, entry))
    return Program(
        bytes_accessed=_computation_bytes(computations, entry),
        temporaries=int(compiled.memory_analysis().temp_size_in_bytes),
        reductions=sum(_is_reduction(computations[name], one, large) for name, one in reached),
        conditionals=sum(one.opcode == "conditional" for _, one in reached),
        collectives=sum(one.opcode.removesuffix("-start") in COLLECTIVES for _, one in reached),
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
    return sum(_array_bytes(dtype, dims) for dtype, dims in _ARRAY.findall(shape))


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
    return sum(_entries(dims) for _, dims in _ARRAY.findall(shape))


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
    return Instruction(
        name,
        opcode,
        shape,
        operands,
        callee[1] if callee else None,
        is_root,
        int(index[1]) if index else None,
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


def _computation_bytes(computations: dict[str, Computation], name: str) -> int:
    computation = computations[name]
    return sum(_bytes(computations, computation, one) for one in computation.values())


def _bytes(computations: dict[str, Computation], here: Computation, one: Instruction) -> int:
    if one.opcode in _FREE or one.opcode == "conditional" or one.opcode.endswith("-done"):
        return 0
    if one.opcode in ("call", "while", "async-start") and one.callee in computations:
        return _computation_bytes(computations, one.callee)  # a loop: one trip
    reads = {name: shape_bytes(here[name].shape) for name in one.operands if name in here}
    writes = shape_bytes(one.shape)
    if one.opcode in _SLICES:
        return 2 * writes
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
            writes -= shape_bytes(users[0].shape) - update
        else:
            total += whole
    return total + writes
