"""The tasks of the model: one module per task. Each makes examples from plain text.

A task is a function (rng, text) -> Example, or None if the text is not suitable. Labels follow from the text
by rules that the module documents; no labelled data set is used.
"""
