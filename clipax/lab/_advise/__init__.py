"""Advice on the clip of a run from a file: the command `clipax advise`."""
