"""What clipax is compared with: plain optax transformations, PyTorch."""
