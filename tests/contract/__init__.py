"""The contract of every public method with JAX and Optax, run from the catalogue."""
