"""Runs the command line: `python -m clipax`."""

import sys

from clipax.cli import main

if __name__ == "__main__":
    sys.exit(main())
