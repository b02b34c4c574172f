"""Measuring a tree: the only code of the package that reduces one.

`measure(leaves, dtype)` gives the norms of a scope's blocks for one read of the leaves. Behind it:
`_leaves` (paths, blocks, dtypes), `_sums` (partial sums and totals), `_scaled` (sums at several
scales from one read, for GPUs and TPUs, with `_kernels`), `_again` (the second read, for CPUs),
`_gather` (small leaves in fewer arrays), `_mesh` (sums over shards inside `shard_map`),
`_matrices` (leaves as matrices), `_singular_values` (by `_svd` or `_polar`).
"""

from clipax.measure._gather import assume_computed as assume_computed
from clipax.measure._gather import assume_devices as assume_devices
from clipax.measure._gather import is_whole as is_whole
from clipax.measure._leaves import Leaf as Leaf
from clipax.measure._leaves import accumulation_dtype as accumulation_dtype
from clipax.measure._leaves import find_row as find_row
from clipax.measure._leaves import index_by_path as index_by_path
from clipax.measure._leaves import name_leaves as name_leaves
from clipax.measure._leaves import narrow as narrow
from clipax.measure._leaves import narrow_inwards as narrow_inwards
from clipax.measure._leaves import replace_values as replace_values
from clipax.measure._leaves import spread as spread
from clipax.measure._leaves import wide_dtype as wide_dtype
from clipax.measure._matrices import is_matrix as is_matrix
from clipax.measure._matrices import refuse_parts as refuse_parts
from clipax.measure._measure import Derived as Derived
from clipax.measure._measure import all_finite as all_finite
from clipax.measure._measure import combine_norms as combine_norms
from clipax.measure._measure import count_entries as count_entries
from clipax.measure._measure import global_norm as global_norm
from clipax.measure._measure import magnitudes as magnitudes
from clipax.measure._measure import measure as measure
from clipax.measure._mesh import Mesh as Mesh
from clipax.measure._reads import Measurement as Measurement
from clipax.measure._singular_values import Method as Method
from clipax.measure._singular_values import clamp_singular_values as clamp_singular_values
from clipax.measure._singular_values import largest_singular_values as largest_singular_values
from clipax.measure._singular_values import polar_factors as polar_factors
