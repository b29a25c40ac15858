"""API keys, and limits per key."""
