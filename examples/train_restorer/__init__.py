"""Makes the n-gram file of `binhdan restore` from text."""
