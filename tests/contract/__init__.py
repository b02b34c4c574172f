"""What every public method must do as a citizen of JAX and Optax, run from the catalogue."""
