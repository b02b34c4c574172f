"""Trains a network with several optimizers under noisy gradients and compares them."""
