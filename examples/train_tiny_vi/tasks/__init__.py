"""What the model is taught to do: one module per task, each a generator of examples made from plain text.

A task is a function (rng, text) -> Example or None where the text does not lend itself to it. All labels come
from the text itself, by rules that the module states; no data set with labels is used.
"""
