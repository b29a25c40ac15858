"""Converts checkpoints to GGUF files: ``binhdan quantize CHECKPOINT_DIR out.gguf --type q8_0``.

One module per step:

- ``checkpoint`` reads config.json, tokenizer.json and safetensors;
- ``hyperparameters`` checks config.json;
- ``architectures`` lists the tensors: their names in the checkpoint and in GGUF, and their shapes;
- ``rope`` prepares weights for RoPE as GGUF defines it;
- ``tokenizer`` builds the vocabulary keys;
- ``convert`` writes the file, one tensor at a time;
- ``cli`` is the command.
"""
