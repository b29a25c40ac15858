"""Loaded models by name, and the dispatcher of their events."""
