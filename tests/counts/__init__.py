"""Counts of compiled programs: what does not depend on the machine or its load."""
