"""Advice on a clip: rows are read, the norms counted, what was counted said.

`_entries` and `_rows` read what people log, `_states` what an optimizer state remembers; both give
`_evidence`, one for each group of parameters. `_series` (norms in order) and `_distribution` (norms
by size) count, `_findings` says it. All of it is float64 NumPy: no norm is out of range.
"""
