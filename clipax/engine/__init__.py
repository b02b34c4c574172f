"""One step of any method: measure, decide, guard, apply, record."""
