"""Vocabulary pruning: drops the tokens that texts of some languages do not use.

`lists` reads frequency lists, `usage` finds the tokens that they use, `closure` the tokens that these need,
`keys` rewrites the tokenizer's keys and `rows` selects the rows of the tensors.
"""
