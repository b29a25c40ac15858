"""How binhdan's embedded model is made: tokenizer, tasks, training, evaluation, export. README.md tells the steps."""
