"""The benchmarks run, and their verdicts, tables and files are right."""
