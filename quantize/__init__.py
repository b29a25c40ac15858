"""Converts checkpoints to GGUF files: ``binhdan quantize CHECKPOINT_DIR out.gguf --type q8_0``.

One module per step:

- ``checkpoint`` reads config.json, tokenizer.json and safetensors; ``config`` checks values of config.json;
- ``families`` lists the families: their tensors, their GGUF keys and their sizes;
- ``rope`` and ``sentence_transformers`` read what several families share;
- ``tokenizer`` builds the vocabulary keys;
- ``plan`` matches a checkpoint with its family, before any weight is read;
- ``encode`` and ``transforms`` make the values of one tensor;
- ``convert`` writes the file, one tensor at a time;
- ``cli`` is the command.
"""
