"""Compiles for TPUs and GPUs on a machine that has neither: devices by description alone.

XLA's compilers for both run on any machine. What they need is the packages of `PACKAGES` beside
JAX, in an environment of its own: the CUDA plug-in registers itself with every program that starts.
Programs for a GPU are linked with a library of device functions, from an installed CUDA or from
`nvidia-cuda-nvcc-cu12`; no driver is needed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from benchmarks.harness.compile import read_processor
from clipax.measure import assume_devices

PACKAGES = {"tpu": ("libtpu",), "gpu": ("jax-cuda12-plugin", "jax-cuda12-pjrt")}
"""What a target's compiler is in; the last two in the version that JAX has."""

KINDS = {"tpu": "v5e:2x2", "gpu": "H200"}
"""What is compiled for unless a topology is asked for."""

# libtpu would look for the machine's TPU, and let one process compile at a time.
_TPU_ENVIRONMENT = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}
# XLA's `GpuTargetConfigProto` of an H200.
_H200 = """gpu_device_info {
  threads_per_block_limit: 1024 threads_per_warp: 32 shared_memory_per_block: 49152
  shared_memory_per_core: 233472 threads_per_core_limit: 2048 core_count: 132 fpus_per_core: 128
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  memory_bandwidth: 4800000000000 l2_cache_size: 52428800 clock_rate_ghz: 1.98
  device_memory_size: 151397597184 shared_memory_per_block_optin: 232448
  cuda_compute_capability { major: 9 }
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
}
platform_name: "CUDA" dnn_version_info { major: 9 minor: 10 patch: 0 }
device_description_str: "NVIDIA H200 141GB HBM3e"
"""


class Compiled(NamedTuple):
    """A compiled program, and the processor's seconds for tracing, lowering and compiling."""

    program: Any
    seconds: float


def prepare(target: str | None, topology: str | None = None) -> dict[str, str]:
    """Sets the process up to compile for a target, and tells what it is compiled with.

    To be called before JAX uses a device.

    Raises:
      ValueError: There is no target, or a package of the target's is missing, or of another version
        than JAX.
    """
    if target is None:
        raise ValueError(f"`--target` must be one of {', '.join(PACKAGES)}")
    versions = {}
    needed = f"pip install libtpu jax-cuda12-plugin=={jax.__version__}"
    needed += f" jax-cuda12-pjrt=={jax.__version__}"
    for name in PACKAGES[target]:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            raise ValueError(
                f"`target` {target!r} needs {name}, which is not installed; in an environment of "
                f"its own: {needed}"
            ) from None
        if name != "libtpu" and versions[name] != jax.__version__:
            raise ValueError(f"`{name}` must be {jax.__version__} as JAX, got {versions[name]}")
    os.environ.update(_TPU_ENVIRONMENT if target == "tpu" else {})
    jax.config.update("jax_platforms", "cpu")  # nothing runs on the target
    # Each is compiled once; a cache on disk would take the seconds away.
    jax.config.update("jax_enable_compilation_cache", False)
    device = f"{target}: {topology or KINDS[target]}, by its description"
    return {"device": device, **versions}


@cache
def find_devices(target: str, topology: str | None = None) -> tuple[Any, ...]:
    """Lists the devices of a topology such as "v5e:16x16"; that of `KINDS` by default."""
    from jax.experimental import topologies

    if target == "tpu":
        name = topology or KINDS[target]
        return tuple(topologies.get_topology_desc(platform="tpu", topology_name=name).devices)
    described = topologies.get_topology_desc(
        platform="cuda", topology_name="h200", topology=topology or "1x1x1", target_config=_H200
    )
    return tuple(described.devices)


def make_mesh(devices: Sequence[Any], sizes: dict[str, int]) -> Mesh:
    """Makes a mesh of axes of these sizes from described devices."""
    array = np.asarray(devices).reshape(*sizes.values())
    return Mesh(array, tuple(sizes), axis_types=(AxisType.Auto,) * len(sizes))


def place(tree: Any, mesh: Mesh, spec: Callable[[Any], P] = lambda leaf: P()) -> Any:
    """Describes arrays of a tree's shapes on a mesh, each as `spec` says of its leaf."""
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(
            leaf.shape, leaf.dtype, sharding=NamedSharding(mesh, spec(leaf))
        ),
        tree,
    )


def compile(function: Any, *arguments: Any, **options: Any) -> Compiled:
    """Compiles a function for the devices that its described arguments lie on."""
    return _compile(function, arguments, options, {})


def compile_with_held(function: Any, *arguments: Any, **options: Any) -> tuple[Compiled, int]:
    """Does the same, and counts the bytes that temporaries hold: XLA tells it in files alone."""
    with TemporaryDirectory() as folder:
        to_files = {"xla_dump_to": folder, "xla_dump_hlo_as_text": True}
        compiled = _compile(function, arguments, options, to_files)
        (path,) = Path(folder).glob("*optimizations-buffer-assignment.txt")
        return compiled, count_held(path.read_text())


def _compile(function: Any, arguments: Any, options: Any, compiler_options: Any) -> Compiled:
    mesh = jax.tree.leaves(arguments)[0].sharding.mesh
    start = read_processor()
    with assume_devices(mesh.size):  # this process sees another number
        lowered = jax.jit(function, **options).lower(*arguments)
        program = lowered.compile(compiler_options=compiler_options)
    return Compiled(program, read_processor() - start)


def count_held(assignment: str) -> int:
    """Counts the bytes of a device's memory in which a temporary lies at some time.

    It is less than is allocated: XLA for TPUs starts each at a multiple of 16 KiB, scalars too.

    Args:
      assignment: XLA's assignment of values to memory, as it writes it: a paragraph of values for
        each allocation. One with a color is in a memory beside the device's own.
    """
    held = 0
    for allocation in assignment.split("\nallocation ")[1:]:
        head = allocation.partition("\n")[0]
        if "preallocated-temp" not in head or "color" in head:
            continue
        end = 0
        places = re.findall(r"\(size=(\d+),offset=(\d+)\)", allocation)
        for start, size in sorted((int(offset), int(size)) for size, offset in places):
            held += max(0, start + size - max(start, end))
            end = max(end, start + size)
    return held


def place_step(transformation: Any, params: Any, target: str) -> tuple[Any, Any]:
    """Makes an optimizer's step, and describes its arguments on one device.

    `params` are shapes and dtypes, those of the gradients too.
    """
    mesh = make_mesh(find_devices(target)[:1], {"device": 1})
    params, state = place((params, jax.eval_shape(transformation.init, params)), mesh)
    return make_step(transformation), (params, state, params)


def make_step(transformation: Any) -> Callable[[Any, Any, Any], tuple[Any, Any]]:
    """Makes an optimizer's step: from parameters, state and gradients to the first two anew."""

    def step(params: Any, state: Any, grads: Any) -> tuple[Any, Any]:
        updates, state = transformation.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    return step
