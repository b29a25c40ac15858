"""Vocabulary pruning: drops the tokens that texts of some languages do not use.

`pruning` chooses the tokens: `lists` reads frequency lists, `usage` finds the tokens that they use, `closure`
the tokens that these need, `vocabulary` those that always stay. `keys` rewrites the tokenizer's keys, `draft`
changes a model on its way to a GGUF file.
"""
