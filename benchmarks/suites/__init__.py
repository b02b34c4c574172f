"""What is compared, one file each; `benchmarks/command.py` runs them."""
