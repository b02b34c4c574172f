"""What a step costs: traffic, temporaries, compile time and run time, beside optax."""
