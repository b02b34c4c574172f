"""Runs the command: `python -m benchmarks NAME`."""

import sys

from benchmarks.command import main

if __name__ == "__main__":
    sys.exit(main())
