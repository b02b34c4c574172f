"""Scopes: which entries of a gradient share a norm.

A scope is a frozen, hashable object. For each leaf it says which axes keep a norm of their own,
and under which label the leaf is measured: leaves with one label form one block. Three words
cover most needs: `"global"` (one norm for the whole tree), `"leaf"` (one for each array) and
`"unit"` (one for each output unit of a kernel: all axes but the last are reduced, vectors and
scalars are one block). The functions of this module build the others.

Leaves are named by their path, `"encoder/dense/kernel"`, alike for nested dictionaries, Flax
linen and Flax NNX. A glob pattern fits a leaf if it fits the path or some whole names in a row of
it: `"head"`, `"head/*"` and `"kernel"` all fit `"params/head/kernel"`.
"""

from clipax.scopes._names import leaves_by_name as leaves_by_name
from clipax.scopes._names import name_leaves as name_leaves
from clipax.scopes._scopes import GLOBAL as GLOBAL
from clipax.scopes._scopes import Block as Block
from clipax.scopes._scopes import Scope as Scope
from clipax.scopes._scopes import by_label as by_label
from clipax.scopes._scopes import exclude as exclude
from clipax.scopes._scopes import is_global as is_global
from clipax.scopes._scopes import refuse_unmatched as refuse_unmatched
from clipax.scopes._scopes import resolve as resolve
from clipax.scopes._scopes import stacked as stacked
from clipax.scopes._scopes import unit as unit
from clipax.scopes._where import check_where as check_where
from clipax.scopes._where import fits as fits
from clipax.scopes._where import matches as matches

__all__ = ["Block", "Scope", "by_label", "exclude", "stacked", "unit"]
