"""The life of a request that generates: plan, admission, generation, deltas, record."""
