"""Which heads are tuned, over which weights, and what a weight vector does to a list."""
