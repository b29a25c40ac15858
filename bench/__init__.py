"""How fast and how dear an answer is on this machine."""
