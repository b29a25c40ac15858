"""The recipe of binhdan's embedded model: tokenizer, tasks, training, evaluation, export."""
