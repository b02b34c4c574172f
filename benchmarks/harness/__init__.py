"""What every benchmark is made of, and what tests may import: compile, clock, count, record."""
