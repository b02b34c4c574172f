"""Figures of the papers: what `benchmarks/papers` measures holds, in quick form."""
