"""A request for an answer from admission to its last delta."""
