"""Monte-Carlo runs of optimizers on a problem under noise: quantiles of 10^5 runs and more."""
