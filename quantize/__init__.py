"""Checkpoints become GGUF files: ``binhdan quantize CHECKPOINT_DIR out.gguf --type q8_0``.

A checkpoint's way through this folder, one room per step:

``checkpoint`` reads config.json, tokenizer.json and safetensors; ``hyperparameters`` checks the config;
``architectures`` says what the tensors are called and shaped in both worlds; ``tokenizer`` makes the
vocabulary's keys; ``convert`` puts it together, tensor by tensor; ``cli`` is the command.
"""
