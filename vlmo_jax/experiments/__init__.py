"""Several runs as one: the chain of all stages, and comparisons."""
