"""Programs to run as they are: training on many devices and on several hosts."""
