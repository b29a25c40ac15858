"""Chooses the type of every tensor so that a model loses least at a given size.

measure (``damage.py``: what each tensor loses with each type) ─► solve (``knapsack.py``) ─► write ─► report
"""
