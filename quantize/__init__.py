"""Writes checkpoints and GGUF files as GGUF files with smaller weights: ``binhdan quantize IN out.gguf``.

One module per step:

- ``checkpoint`` reads config.json, tokenizer.json and safetensors; ``config`` checks values of config.json;
- ``families`` lists the families: their tensors, their GGUF keys and their sizes;
- ``rope`` and ``sentence_transformers`` read what several families share;
- ``tokenizer`` builds the vocabulary keys;
- ``plan`` matches a checkpoint with its family and makes a ``draft``, before any weight is read;
  ``stored_rows`` and ``transforms`` make its values;
- ``gguf_source`` makes a draft of a GGUF file;
- ``prune`` changes the vocabulary of a draft;
- ``recipes`` chooses the type of each tensor;
- ``encode`` encodes the tensors, ``gguf_file`` lays them out, ``output_file`` makes the file appear whole;
- ``convert`` runs all steps and verifies the file;
- ``cli`` is the command.
"""
