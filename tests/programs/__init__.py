"""Counts of the programs that XLA makes for TPUs and GPUs, in an environment of its own."""
