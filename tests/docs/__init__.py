"""Tests of README.md, CONTRIBUTING.md and the pages in docs/."""
