"""Capacity planning: how many boards a country needs, and what they cost."""
