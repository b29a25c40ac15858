"""How the embedded model of binhdan is made: tokenizer, tasks, training, evaluation, export."""
